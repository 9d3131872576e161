"""The house rules that a machine can hold: who may import whom, what may be called where, and how long things may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "modelgates_server"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE
LEAVES = ("errors", "clock", "money", "limits", "privacy")

MAY_IMPORT: dict[str, set[str]] = {
    "tasks": set(),
    "crew": set(),
    "statuses": set(),
    "addresses": set(),
    "config": {"catalogue"},
    "dialects": set(),
    "catalogue": {"dialects"},
    "routing": {"dialects", "catalogue"},
    "outbound": set(),
    "providers": {"outbound", "dialects", "catalogue"},
    "storage": set(),
    "vault": {"storage", "config"},
    "accounts": {"storage"},
    "ledger": {"storage"},
    "activity": {"dialects", "catalogue", "routing", "storage"},
    "relay": {"dialects", "catalogue", "routing", "providers", "accounts", "ledger", "activity"},
    "management": {"storage", "vault", "accounts", "ledger", "activity", "catalogue"},
    "upkeep": {"accounts", "ledger", "activity", "catalogue", "outbound", "storage"},
    "doctor": {"catalogue"},
    "reconcile": {"dialects", "catalogue", "storage", "ledger", "outbound", "alerts", "config"},
    "alerts": {"accounts", "ledger", "activity", "storage", "management", "vault", "outbound"},
    "edge": {"dialects", "accounts", "catalogue", "ledger", "activity", "relay", "storage"},
    "api": {
        "accounts", "catalogue", "ledger", "activity", "routing", "management", "outbound", "storage", "vault", "dialects",
        "alerts", "statuses",
    },
    "console": {
        "accounts", "catalogue", "ledger", "activity", "routing", "management", "outbound", "storage", "vault", "dialects",
        "alerts", "doctor", "statuses", "addresses",
    },
    "docsite": {"addresses", "accounts", "catalogue", "ledger", "activity", "storage"},
    "listener": {"config", "edge"},
    "simulator": set(),
    "cli": {
        "app", "config", "storage", "management", "accounts", "ledger", "activity", "catalogue", "vault", "simulator",
        "dialects", "routing", "console", "reconcile", "outbound", "alerts", "assembly", "doctor",
    },
}  # fmt: skip
"""Design section 3, and its amendments in docs/architecture.md. `app` may import everything."""

PROVIDERS_SEEN_BY_RELAY = {f"{PACKAGE}.providers.base"}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
SPINE_LINES_MAX = 300

BANNED_CALLS = {
    "time.time": ({"clock"}, "tests cannot move it: ask the Clock"),
    "time.monotonic": ({"clock"}, "tests cannot move it: ask the Clock"),
    "time.perf_counter": ({"clock"}, "tests cannot move it: ask the Clock"),
    "datetime.now": ({"clock"}, "tests cannot move it: ask the Clock"),
    "os.environ": ({"config", "cli"}, "settings must be documented: read them in config.py"),
    "os.getenv": ({"config"}, "settings must be documented: read them in config.py"),
    "asyncio.create_task": (set(), "someone must own its end: use Tasks.spawn"),
    "asyncio.ensure_future": (set(), "someone must own its end: use Tasks.spawn"),
    "loop.create_task": ({"tasks"}, "someone must own its end: use Tasks.spawn"),
}
FLOAT_FREE = ("money.py", "ledger/units.py", "ledger/values.py", "ledger/credit.py", "catalogue/price.py",
              "reconcile/books.py", "reconcile/compare.py", "reconcile/keep.py")  # fmt: skip


def _files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "migrations/versions" not in path.as_posix())


def _package(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only leaves and what its row of the table allows, type-only and in-function imports included."""
    package = _package(path)
    if package in {"app", "assembly", "__init__", "__main__"}:
        return
    wrong = []
    for name in _imports(ast.parse(path.read_text())):
        if not name.startswith(f"{PACKAGE}."):
            continue
        target = name.split(".")[1]
        if package in LEAVES:
            allowed = set(LEAVES[: LEAVES.index(package)])
        elif package == "simulator":
            allowed = {"simulator"}
        else:
            allowed = MAY_IMPORT[package] | set(LEAVES) | {package, "__version__"}
        if target not in allowed:
            wrong.append(name)
        if package == "relay" and target == "providers" and name not in PROVIDERS_SEEN_BY_RELAY:
            wrong.append(name)

    assert wrong == []


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_banned_calls_stay_in_their_place(path: Path) -> None:
    """The wall clock, the environment and task creation are used only where somebody answers for them."""
    package = _package(path)
    if package == "simulator":
        return
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            spelled = ast.unparse(node)
            for call, (homes, reason) in BANNED_CALLS.items():
                if (spelled == call or spelled.endswith("." + call)) and package not in homes:
                    wrong.append(f"line {node.lineno}: {call} ({reason})")

    assert wrong == []


@pytest.mark.parametrize("name", FLOAT_FREE)
def test_money_knows_no_float(name: str) -> None:
    """No float literal, no call of float and no true division stands in the modules that compute money."""
    tree = ast.parse((ROOT / name).read_text())
    wrong = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "float")
    ]

    assert wrong == []


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_can_be_read_in_one_sitting(path: Path) -> None:
    """No function is longer than 70 lines without its docstring, no file longer than 400, no part of the spine than 300."""
    source = path.read_text()
    limit = SPINE_LINES_MAX if _package(path) == "relay" else FILE_LINES_MAX
    long = [f"{len(source.splitlines())} lines"] if len(source.splitlines()) > limit else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            if (node.end_lineno or 0) - first.lineno >= FUNCTION_LINES_MAX:
                long.append(node.name)

    assert long == []


@pytest.mark.parametrize("package", ["dialects", "catalogue", "routing"])
def test_pure_packages_do_no_io(package: str) -> None:
    """Dialects, catalogue and routing know no async, no sockets and no files."""
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text())
        wrong += [path.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
        wrong += [
            name for name in _imports(tree) if name.split(".")[0] in {"asyncio", "aiohttp", "socket", "sqlite3", "os"}
        ]

    assert wrong == []


def test_no_module_has_mutable_globals() -> None:
    """Nothing says `global`: state hangs off the composition root."""
    wrong = [
        path.name for path in _files() for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Global)
    ]

    assert wrong == []


def test_tests_patch_nothing() -> None:
    """Tests use real parts: no mock and no monkeypatched attribute anywhere."""
    me = Path(__file__)
    banned = ("unittest" + ".mock", "monkeypatch" + ".setattr")
    wrong = [
        path.name for path in me.parent.rglob("*.py") if path != me and any(word in path.read_text() for word in banned)
    ]

    assert wrong == []
