"""Who is told what, and when: alerts about budgets and credit, their delivery, and top-ups by rule."""

from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity

__all__ = ["Alert", "Kind", "Outbox", "Severity"]
