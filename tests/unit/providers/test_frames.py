"""Bedrock's binary frames become server-sent events, wherever the network cuts them, or say why they cannot."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from tests.unit.providers.provider_samples import chunk, exception, frame

from modelgates_server.dialects.values import BadEvent
from modelgates_server.providers.frames import FRAME_BYTES_MAX, METRICS, EventStream

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_bdrk_1", "usage": {"input_tokens": 9}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ünï\u2028\n"}},
    {"type": "message_stop", METRICS: {"inputTokenCount": 9, "outputTokenCount": 2}},
]
STREAM = b"".join(map(chunk, EVENTS)) + exception("throttlingException", {"message": "Too many"})


def read(*pieces: bytes) -> bytes:
    stream = EventStream()
    told = b"".join(map(stream.feed, pieces))
    stream.finish()
    return told


def events(told: bytes) -> list[tuple[str, Any]]:
    """Each event's name and payload."""
    found = []
    for text in told.decode().split("\n\n")[:-1]:
        name, data = text.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_chunks_become_named_events() -> None:
    """The event is passed on as it is, under its own name; Bedrock's counts are taken out and kept."""
    stream = EventStream()
    told = events(stream.feed(b"".join(map(chunk, EVENTS))))

    assert [name for name, _ in told] == ["message_start", "content_block_delta", "message_stop"]
    assert [data for _, data in told] == [*EVENTS[:2], {"type": "message_stop"}]
    assert json.loads(stream.metrics or b"") == EVENTS[2][METRICS]


def test_the_cut_of_the_network_has_no_influence() -> None:
    """Cut at every byte, at every pair of bytes, or after each byte: the events are the same."""
    whole = read(STREAM)
    assert [name for name, _ in events(whole)][-1] == "error"
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == whole
    for first in range(0, len(STREAM), 3):
        assert read(STREAM[:first], STREAM[first:]) == whole
        for second in range(first, len(STREAM), 41):
            assert read(STREAM[:first], STREAM[first:second], STREAM[second:]) == whole


@pytest.mark.parametrize("at", range(len(chunk(EVENTS[0]))))
def test_a_flipped_bit_is_never_an_event(at: int) -> None:
    """Wherever it is: a checksum tells, or the length is one that cannot be."""
    good, bad = chunk(EVENTS[1]), bytearray(chunk(EVENTS[0]))
    bad[at] ^= 0x10
    stream = EventStream()

    told = stream.feed(good + bytes(bad))

    assert [name for name, _ in events(told)] == ["content_block_delta"]
    with pytest.raises(BadEvent):
        read(good + bytes(bad), b"", good)


def test_what_came_before_a_broken_frame_is_given_first() -> None:
    """The events of the same read are not lost; the reason comes with the next."""
    stream = EventStream()
    assert stream.broken is None
    assert stream.feed(chunk(EVENTS[0]) + b"\0" * 20)
    assert isinstance(stream.broken, BadEvent)
    with pytest.raises(BadEvent, match="checksum"):
        stream.finish()


def test_a_cut_off_frame_is_a_broken_stream() -> None:
    """Bytes that complete no frame are told at the end, not swallowed."""
    stream = EventStream()
    stream.feed(STREAM[:-1])
    with pytest.raises(BadEvent, match="within a frame"):
        stream.finish()


def test_a_frame_without_measure_is_refused_at_its_head() -> None:
    """Twelve bytes are enough to see that a frame is larger than any; nothing is collected for it."""
    prelude = struct.pack(">II", FRAME_BYTES_MAX + 1, 0)
    with pytest.raises(BadEvent, match="16777217 bytes"):
        EventStream().feed(prelude + struct.pack(">I", zlib.crc32(prelude)))


def test_a_large_frame_in_many_reads_is_one_event() -> None:
    """A megabyte in pieces of a kilobyte: joined once."""
    large = chunk({"type": "content_block_delta", "text": "x" * 1_000_000})
    told = read(*(large[at : at + 1024] for at in range(0, len(large), 1024)))
    assert len(events(told)[0][1]["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("throttlingException", "rate_limit_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("ModelNotReadyException", "overloaded_error"),
        ("internalServerException", "api_error"),
        ("modelStreamErrorException", "api_error"),
        ("modelTimeoutException", "timeout_error"),
        ("validationException", "invalid_request_error"),
        ("somethingNewException", "api_error"),
    ],
)
def test_an_exception_is_an_error_event(name: str, error_type: str) -> None:
    """Its name decides the type and is kept; its message loses what is the operator's own."""
    message = "model arn:aws:bedrock:us-east-1:123456789012:model/x of 123456789012 is busy"
    ((event, data),) = events(read(exception(name, {"message": message})))

    assert (event, data["type"], data["error"]["type"]) == ("error", "error", error_type)
    assert data["error"]["message"] == "model … of … is busy"
    assert data["error"]["details"] == {"error_code": name}


def test_an_error_frame_says_it_in_its_headers() -> None:
    """AWS's frames for what is not modelled have no payload."""
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "An\ninternal error"}
    ((event, data),) = events(read(frame(headers, b"")))

    assert event == "error"
    assert data["error"]["type"] == "api_error"
    assert data["error"]["details"]["error_code"] == "InternalFailure"


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"bytes":"!"}', b'{"bytes":"e30="}', b'{"bytes":"eyJ0eXBlIjoiYSBiIn0="}']
)
def test_a_chunk_without_an_event_is_refused(payload: bytes) -> None:
    """No JSON, no base64, no type, or a type that would break the line."""
    with pytest.raises(BadEvent):
        EventStream().feed(frame({":event-type": "chunk", ":message-type": "event"}, payload))


def test_line_ends_between_members_do_not_split_an_event() -> None:
    """JSON may be written on several lines; an event may not."""
    ((name, data),) = events(read(chunk(b'{"type":\r\n"ping",\n"a": 1}')))
    assert (name, data) == ("ping", {"type": "ping", "a": 1})


def test_other_frames_and_header_types_are_passed_over() -> None:
    """Frames of other types carry no answer; headers of every type are skipped by their size."""
    head = b"\x01a\x00" + b"\x01b\x04\0\0\0\1" + b"\x01c\x06\0\2xy" + b"\x01d\x09" + b"0" * 16
    for name, value in ((b":message-type", b"event"), (b":event-type", b"initial-response")):
        head += bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", len(head) + 16, len(head))
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + head

    assert read(data + struct.pack(">I", zlib.crc32(data))) == b""
