"""What each cloud calls the models (providers 3.3 to 3.5), turned into Anthropic's ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from modelgates_server.simulator.models import MODELS, SIMULATED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION_PREFIXES: Final = ("global", "us", "eu", "apac", "jp", "au", "in", "us-gov")
OWN_PROFILE_MODEL: Final = "claude-opus-4-8"
"""What an application profile or provisioned model serves, when nobody said."""

_INVOKE_IDS: Final[Mapping[str, str]] = {
    "claude-haiku-4-5-20251001-v1:0": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5-20250929-v1:0": "claude-sonnet-4-5-20250929",
    "claude-opus-4-5-20251101-v1:0": "claude-opus-4-5-20251101",
    "claude-opus-4-6-v1": "claude-opus-4-6",
}
_VERSION = re.compile(r"claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?$")
_ARN = re.compile(r"arn:aws[\w-]*:bedrock:[a-z0-9-]*:\d*:([a-z-]+)/(.+)$")
_NEWEST = (99, 0)


def generation(model_id: str) -> tuple[int, int]:
    """Give the version in an Anthropic id, such as (4, 7). Ids without one count as new."""
    found = _VERSION.match(model_id)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST


def is_simulated(model_id: str) -> bool:
    return model_id.startswith(SIMULATED_PREFIX)


def mantle_name(sent: str) -> str | None:
    """Read ``anthropic.claude-...``, with or without a region before it. None if it is no such id."""
    region, name = _split(sent)
    if name is None or region not in ("", *REGION_PREFIXES):
        return None
    return name if name in MODELS or is_simulated(name) else None


class InvokeName:
    """A model as the path of Bedrock Invoke names it."""

    def __init__(self, sent: str, own: Mapping[str, str] | None) -> None:
        """`own`: ARNs of application profiles and provisioned models -> Claude ids; None takes every such ARN."""
        self.model: str | None = None
        """The Claude id; None when there is no such model."""
        self.is_regional = True
        """Whether it names an inference profile, so that it can be invoked but not counted with."""
        arn = _ARN.match(sent)
        if arn is not None and arn[1] in ("application-inference-profile", "provisioned-model"):
            self.model = OWN_PROFILE_MODEL if own is None else own.get(sent)
            return
        region, name = _split(arn[2] if arn else sent)
        self.is_regional = bool(region)
        if name is None or region not in ("", *REGION_PREFIXES):
            return
        known = name in MODELS and name not in _INVOKE_IDS.values() and generation(name) > (4, 5)
        self.model = name if known or is_simulated(name) else _INVOKE_IDS.get(name)


def vertex_name(sent: str, *, counting: bool) -> str | None:
    """Read ``claude-...`` with ``@date`` up to 4.5 and without since 4.6. None if it is no such id."""
    name, _, date = sent.partition("@")
    if is_simulated(name):
        return name
    if date in ("default", "latest") and not counting:
        return name if name in MODELS else None
    if date:
        dated = f"{name}-{date}"
        return dated if dated in MODELS else None
    return name if name in MODELS and generation(name) > (4, 5) else None


def _split(sent: str) -> tuple[str, str | None]:
    """Split ``us.anthropic.claude-x`` into region ("" for none) and name; the name is None if it is not Anthropic's."""
    if sent.startswith("anthropic."):
        return "", sent.removeprefix("anthropic.")
    region, mark, name = sent.partition(".anthropic.")
    return (region, name) if mark else ("", None)
