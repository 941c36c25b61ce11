# SPDX-License-Identifier: Apache-2.0
"""Which watches mean a path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.lowered import Act, Watch, WatchIndex, Where

_names = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=4)
_paths = _names.map(lambda names: "/" + "/".join(names))


def _watch(where, path):
    return Watch(where, f"{path}/" if where is Where.BELOW else path, Act.READ, Act.NOTHING)


def _means(watch, path):
    return {
        Where.EXACT: path == watch.path,
        Where.BELOW: path.startswith(watch.path),
        Where.ENDING: path.endswith(watch.path),
    }[watch.where]


@given(st.lists(st.builds(_watch, st.sampled_from(Where), _paths), max_size=12), _paths)
def test_a_path_is_meant_by_the_watches_that_name_it_a_directory_above_it_or_its_end(watches, path):
    found = list(WatchIndex(watches).of(path))
    assert sorted(map(id, found)) == sorted(id(one) for one in watches if _means(one, path))


def test_nothing_is_meant_where_nothing_is_watched():
    assert list(WatchIndex().of("/etc/hosts")) == []
