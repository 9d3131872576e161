"""The one door: what of a request, or of an error, may be written anywhere. By allow-list; the rest is not repeated.

Prompts and answers are written nowhere, except for workspaces that opted in, and there by `activity/contents.py` alone: sealed, for a
time, to be read by admins and never without an audit row. What a provider says about a failure may quote the prompt: `unquoted` lets
pass what does not stand in the request.

Log records are events: a short name and fields, written on one line as ``key=value``. Whatever a field holds, keys and
tokens in it are replaced, and nothing in it can begin a new line or move a terminal's cursor (reliability-security 1.3). Of an exception
its place in the code is written; its own words only where they come from us or from the operating system, for others quote values.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from modelgates_server.errors import BadRequest, ModelGatesError, NotFound

LOGGABLE_HEADERS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "content-length",
        "content-type",
        "host",
        "request-id",
        "retry-after",
        "user-agent",
        "x-request-id",
        "x-should-retry",
    }
)
"""Nothing in these identifies a person or opens a door. Everything else, known or not, stays out."""

VALUE_CHARACTERS_MAX: Final = 2_000
"""Longest value of one field in a log line; a trace of an exception is longer."""

TRACE_CHARACTERS_MAX: Final = 20_000

SEARCHED_BYTES_MAX: Final = 1024 * 1024
"""A request that is longer is not looked through for quotations: of what is said about it only common words pass."""

_COMMON: Final = frozenset(
    """
    a about above access account accounts allowed also an and any anthropic api are argument array assistant at available aws azure
    balance be because bedrock before between beta betas billing block blocks blocked body boolean but by cache cached can cannot
    capacity check claude claude_code client code computer contact content context continue could count credit credits data day days
    deployment developer disabled does document documents during each effort either empty enable enabled endpoint enough error errors
    every exceed exceeded exceeds expected extra failed feature features field fields file files first for format found from function
    google greater had has have haiku header headers high hour hours http id if image images in include inference input inputs instead
    integer internal invalid invalid_request_error is issue it its json key keys large last later least length less level limit limited
    limits list long low match max max_tokens maximum media_type message messages metadata method min minimum minute minutes missing
    model models month more most must name need new no non not number object of off on once one only operation opus or org organization
    other output over overloaded page parameter parameters per permission permitted please policy previous project prompt provided
    provider quota range rate rates reached reason received region replace request requested requests require required reset resource
    response retry role safety same schema second seconds see send server service should signature size sonnet source specified start
    status stop stop_reason stream streaming string sufficient support supported system temperature text than that the their then there
    these thinking this time timeout to token tokens too tool tool_choice tool_result tool_use tool_use_id tools top_k top_p try type
    unable unauthorized unavailable unexpected unknown unsupported until up upgrade url usage use used user using valid value values
    version vertex via was web were when where which will window with within without would you your
    """.split()  # noqa: SIM905 - a list would take three hundred lines
)
"""Words that say nothing about who uses them: those of interfaces, and of the sentences in which they refuse."""

_WORD: Final = re.compile(r"\w+")
_ELISION: Final = "…"
_ELISIONS: Final = re.compile(r"…(?:[^0-9A-Za-z…]*…)+")
_SAFE_WORDS_MAX: Final = 20
"""Characters: longer ones with digits in them are keys and names of somebody's things."""

_TELLING: Final = (
    ModelGatesError, OSError, sqlite3.Error, AttributeError, NameError, ImportError, TypeError, AssertionError, RuntimeError,
)  # fmt: skip
"""Exceptions whose words do not quote what people sent, but for `_QUOTING` among them."""

_QUOTING: Final = (BadRequest, NotFound)

_HIDDEN: Final = "[hidden]"
_SECRETS: Final = re.compile(
    r"sk-(?:mg|ant)-[0-9A-Za-z_-]{4,}"  # ours and Anthropic's
    r"|\bsk-[0-9A-Za-z_-]{16,}"  # OpenAI's and those who copy it
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS access key ids
    r"|\bAIza[0-9A-Za-z_-]{20,}|\bya29\.[0-9A-Za-z_.-]{10,}"  # Google
    r"|\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*"  # JSON web tokens
    r"|(?i:\b(?:bearer|basic)\s+)[^\s\"',;]{4,}"
    r"|(?i:\b(?:x-api-key|api[_-]?key|password|secret|token)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;]{4,}"
    r"|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"  # user and password in an address
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[^\s\"=\\]+")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def loggable_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Keep the headers that may be logged, in lower case and made visible."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {name.lower(): visible(value, 200) for name, value in pairs if name.lower() in LOGGABLE_HEADERS}


def visible(text: str, limit: int) -> str:
    """Make foreign text fit to be stored and shown: control and invisible characters removed, cut to `limit` characters."""
    cut = _UNPRINTABLE.sub("", text[: 4 * limit]).strip()
    return cut if len(cut) <= limit else cut[: max(0, limit - 1)] + "…"


def redacted(text: str) -> str:
    """Replace everything that looks like a key, token or password."""
    return _SECRETS.sub(_HIDDEN, text)


def unquoted(text: str, sent: bytes) -> str:
    """What a provider said about a request, without the words that stand in the request too, and without keys.

    Common words pass. A word is looked for in small letters, as it is and as JSON may escape it, within longer words too.
    """
    body = sent.lower() if len(sent) <= SEARCHED_BYTES_MAX else None
    told = _WORD.sub(lambda found: found[0] if _is_theirs(found[0].lower(), body) else _ELISION, redacted(text))
    return _ELISIONS.sub(_ELISION, told)


def _is_theirs(word: str, body: bytes | None) -> bool:
    """Whether a word is the provider's own, not one of the request's."""
    if word in _COMMON or (word.isdecimal() and len(word) <= 2):
        return True
    if body is None or (len(word) >= _SAFE_WORDS_MAX and not word.isalpha()):
        return False
    plain, escaped = word.encode("utf-8", "replace"), json.dumps(word)[1:-1].encode()
    if len(word) > 3:
        return plain not in body and escaped not in body
    return re.search(rb"(?<!\w)(?:%s|%s)(?!\w)" % (re.escape(plain), re.escape(escaped)), body) is None


class RedactingFormatter(logging.Formatter):
    """Writes a record as one line: time, level, logger, event, then its `extra` fields as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line. Never fails because of what a field holds."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        parts = [f"{time} {record.levelname.lower()} {record.name} {_line(_message(record), VALUE_CHARACTERS_MAX)}"]
        parts += [f"{_field_name(name)}={_value(value)}" for name, value in fields.items()]
        if record.exc_info:
            trace = _line("".join(_trace(record.exc_info[1])), TRACE_CHARACTERS_MAX, keep="end")
            parts.append(f"trace={_quoted(trace)}")
        return " ".join(parts)


def configure_logging(level: str) -> None:
    """Send every log record to stderr through the one door. `level` is debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def _trace(error: BaseException | None) -> Iterator[str]:
    """Where an exception came from, with what led to it, the first first; its words only where they quote nothing."""
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _trace(before)
        yield "\nThen:\n"
    yield from traceback.format_tb(error.__traceback__)
    telling = isinstance(error, _TELLING) and not isinstance(error, _QUOTING)
    yield f"{type(error).__qualname__}: {error if telling else '(its words are not shown)'}\n"
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _trace(one)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a library's mistake in its own message must not lose the record
        return str(record.msg)


def _value(value: object) -> str:
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - foreign objects may fail to describe themselves
        text = f"<{type(value).__name__} without text: {type(error).__name__}>"
    return _quoted(_line(text, VALUE_CHARACTERS_MAX))


def _quoted(line: str) -> str:
    return line if _PLAIN.fullmatch(line) else '"' + line.replace('"', '\\"') + '"'


def _line(text: str, limit: int, keep: str = "start") -> str:
    """Redact before cutting, so that a cut cannot leave half a key that no pattern knows; then escape."""
    text = redacted(text)
    if len(text) > limit:
        text = text[:limit] + "…" if keep == "start" else "…" + text[-limit:]
    return _UNPRINTABLE.sub(_escape, text.replace("\\", "\\\\"))


def _escape(match: re.Match[str]) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0], f"\\u{ord(match[0]):04x}")


def _field_name(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z_.-]", "_", name)
