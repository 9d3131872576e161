"""The table of contents: which documents there are, in which order people may read them, and one line about each. Data.

Every file docs/*.md stands in exactly one group; a test holds it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """A document: its file's name without ``.md``, and what it tells in one line."""

    page: str
    summary: str


class Group(NamedTuple):
    """Documents that belong together. In a search those with a smaller `weight` stand further down."""

    title: str
    entries: tuple[Entry, ...]
    weight: float = 1.0


GROUPS: Final = (
    Group(
        "Start",
        (
            Entry("quickstart", "From an empty folder to an answer in Claude Code or Claude Desktop."),
            Entry("claude-desktop", "Every step, ready-made files for each system, and what the app then shows."),
            Entry("claude-code", "Variables, settings file, model roles, the GitHub Action, the status line."),
            Entry("concepts", "What the words mean and how they hang together."),
            Entry("console", "Each page for people: what it shows, and who sees it."),
            Entry("troubleshooting", "What you see, why, and the remedy."),
        ),
    ),
    Group(
        "How it works",
        (
            Entry("routing", "How a provider is chosen, and what happens when it fails."),
            Entry("budgets", "The promise of a budget, every limit, credit, and refusals on the wire."),
            Entry("activity", "Where the figures come from: receipts, roll-ups, analytics, exports, the audit log."),
            Entry("own-keys", "Provider keys of an organization's own, sealed, used before or after the operator's."),
            Entry("alerts", "Who is told what: thresholds of budgets, low credit, webhooks, mail, top-ups by rule."),
            Entry("reconciliation", "Our books beside the provider's own report."),
        ),
    ),
    Group(
        "Operate",
        (
            Entry("providers", "A working configuration for each kind of provider."),
            Entry("operations", "Data, secrets, backup, PostgreSQL, replicas, rotation, upgrades, metrics."),
            Entry("deploying", "systemd, containers, Kubernetes, proxies; sizes; what to watch; the log."),
            Entry("sign-in", "Links, passwords and your identity provider; sessions; what slows guesses down."),
            Entry("security", "What protects the gateway, in the order in which a request or a person meets it."),
            Entry("privacy", "What is recorded about a request, what is not, and the one switch that changes it."),
            Entry("limits", "Numbers that are built in, and what happens beyond them."),
        ),
    ),
    Group(
        "Reference",
        (
            Entry("configuration", "Every setting, its variable, its default."),
            Entry("commands", "Every command and its flags."),
            Entry("api", "The management API: calls, bodies, answers."),
            Entry("routes", "Every path that the gateway answers, and who may ask."),
            Entry("errors", "Every error with its status, its type in both dialects, and what to do."),
            Entry("mcp", "These docs for AI clients: search, read, and with a key ask about its own requests."),
            Entry("glossary", "The words that this product uses, one noun per idea."),
        ),
        weight=0.7,
    ),
    Group(
        "Inside",
        (
            Entry("product-page", "What the product page promises, and where it is true here."),
            Entry("architecture", "Where each thing lives, and which way imports point."),
            Entry("request", "One request from the socket to the receipt, file by file."),
            Entry("adding-a-provider", "How a new kind of provider is added."),
            Entry("benchmarks", "What the gateway costs in time and memory, measured beside nginx."),
            Entry("testing", "What the suites prove, and the gates of a release."),
            Entry("dependencies", "Why each dependency is there, what it costs, who keeps it."),
        ),
        weight=0.4,
    ),
)
