# SPDX-License-Identifier: Apache-2.0
"""Names in packets, from whole packets, from pieces, and from nonsense."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.capture.names import dns_question, tls_server_name

label = st.binary(min_size=1, max_size=63)


def query(*labels: bytes, more: bytes = b"") -> bytes:
    name = b"".join(bytes([len(word)]) + word for word in labels) + b"\0"
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", 28, 1) + more


def over_tcp(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def hello(name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello("pay.example.com")


def test_the_first_question_is_the_name_in_lower_case():
    assert dns_question(query(b"Pay", b"Example", b"COM")) == "pay.example.com"


def test_the_root_has_no_name():
    assert dns_question(query()) is None


def test_a_question_cut_short_has_no_name():
    whole = query(b"pay", b"example")
    for length in range(len(whole) - 4):
        assert dns_question(whole[:length]) is None


def test_a_pointer_where_the_name_should_be_is_no_name():
    assert dns_question(bytes(12) + b"\xc0\x0c") is None


def test_bytes_that_are_no_letters_are_shown():
    assert dns_question(query(b"\xff\x00", b"x")) == "\\xff\x00.x"


@given(st.lists(label, min_size=1, max_size=8))
def test_over_tcp_the_length_may_lead_or_have_gone_ahead(labels):
    message = query(*labels)
    asked = dns_question(message)
    assert asked is not None
    assert dns_question(over_tcp(message), tcp=True) == asked
    assert dns_question(message, tcp=True) == asked


def test_two_questions_in_one_piece_of_a_stream_tell_the_first():
    stream = over_tcp(query(b"first")) + over_tcp(query(b"second"))
    assert dns_question(stream, tcp=True) == "first"


@given(payload=st.binary(max_size=80), tcp=st.booleans())
@example(payload=b"", tcp=True)
@example(payload=b"\0", tcp=True)
def test_no_packet_to_a_resolver_raises(payload, tcp):
    assert isinstance(dns_question(payload, tcp=tcp), str | None)


def test_a_client_hello_tells_the_server_name():
    assert tls_server_name(HELLO) == "pay.example.com"
    assert tls_server_name(hello("PAY.Example.Com")) == "pay.example.com"


def test_a_hello_without_a_server_name_has_none():
    assert tls_server_name(hello("192.0.2.1")) is None  # an address is never sent as a name


def test_a_hello_cut_short_is_read_as_far_as_it_goes():
    found = [tls_server_name(HELLO[:length]) for length in range(len(HELLO) + 1)]
    start = HELLO.index(b"pay.example.com") + len("pay.example.com")
    assert found[:start] == [None] * start
    assert found[start:] == ["pay.example.com"] * (len(HELLO) + 1 - start)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_no_hello_with_a_wrong_byte_raises(at, byte):
    spoilt = bytearray(HELLO)
    spoilt[at] = byte
    assert isinstance(tls_server_name(bytes(spoilt)), str | None)


@given(st.binary(max_size=200))
def test_no_bytes_raise(payload):
    assert isinstance(tls_server_name(payload), str | None)
