# SPDX-License-Identifier: Apache-2.0
"""What was compiled is kept, and a start that finds it needs no compiler."""

from __future__ import annotations

import shutil

import pytest

from monitor.capture.bpf import MapInfo
from monitor.capture.compiled import Compiled
from monitor.capture.kernel import load
from monitor.errors import CaptureError


@pytest.fixture(scope="module")
def first(kernel_settings, tmp_path_factory):
    """What a first load compiled and kept, its maps' shapes and its programs."""
    settings = kernel_settings(events_ring_mib=1, header_cache=tmp_path_factory.mktemp("cache"))
    with load(settings) as kernel:
        return settings.header_cache, (shapes(kernel), kernel.programs())


@pytest.fixture
def settings(first, kernel_settings, tmp_path):
    """With that in a cache of their own."""
    cache = shutil.copytree(first[0], tmp_path / "cache")
    return kernel_settings(events_ring_mib=1, header_cache=cache)


def kept(settings):
    [file] = settings.header_cache.glob("programs-*.json")
    return file


def shapes(kernel):
    """What the kernel says of every map, but its id."""
    [generation] = kernel._pins.generations()
    infos = {name: MapInfo.of(generation.map(name)) for name in generation.maps()}
    return {
        name: (i.kind, i.key_size, i.value_size, i.max_entries, i.flags)
        for name, i in infos.items()
    }


def test_the_next_start_has_the_same_maps_and_programs_and_compiles_nothing(settings, first):
    [headers] = settings.header_cache.glob("headers-*")
    headers.rename(settings.header_cache / "away")  # who compiles makes them anew
    with load(settings) as kernel:
        assert (shapes(kernel), kernel.programs()) == first[1]
    assert not headers.exists()


def test_it_is_the_kept_code_that_is_loaded(settings):
    good = Compiled.read(kept(settings))
    code = {name: bytes(len(text)) for name, text in good.code.items()}
    Compiled(good.maps, code).write(kept(settings))
    with pytest.raises(CaptureError, match="the kernel does not load"):
        load(settings)


@pytest.mark.parametrize("content", ["", '{"maps": [', "[]", '{"maps": [{}], "code": {}}'])
def test_a_file_that_is_not_whole_is_made_anew(settings, content):
    whole = kept(settings).read_text()
    kept(settings).write_text(content)
    with load(settings) as kernel:
        assert all(kernel.programs().values())
    assert kept(settings).read_text() == whole


def test_other_settings_are_another_compilation(settings, kernel_settings):
    other = kernel_settings(events_ring_mib=2, header_cache=settings.header_cache)
    with load(other) as kernel:
        assert MapInfo.of(kernel._generation.map("events")).max_entries == 2 << 20
    assert len(list(settings.header_cache.glob("programs-*.json"))) == 2
