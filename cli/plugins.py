"""`gmnc plugins`: lowering rules from other installed packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Json
from .session import cell, errors_to_exit_codes, output, print_json

if TYPE_CHECKING:
    from ..frontend.rules.plugins import Plugin

__all__ = ["list_plugins", "listing"]


def list_plugins(json: Json = False) -> None:
    """List the installed plug-ins: their rules, the built-in rules these override, and load errors."""
    with errors_to_exit_codes():
        from ..frontend.rules.plugins import GROUP, plugins

        found = [listing(p) for p in plugins()]
        if json:
            print_json(found)
        elif found:
            _print_table(found)
        else:
            output().print(f"no plug-in is installed (no distribution has an entry point in the group {GROUP})")


def listing(plugin: Plugin) -> dict[str, Any]:
    """The JSON of one plug-in."""
    from ..frontend import builtin
    from ..frontend.rules.plugins import enabled

    state = "off" if not enabled() else "failed" if plugin.error else "loaded"
    own = {(r.domain, r.op) for r in builtin()}
    rules = [
        {
            "domain": rule.domain,
            "op": rule.op,
            "since": rule.since,
            "rule": rule.function,
            "overrides": (rule.domain, rule.op) in own,
        }
        for rule in plugin.rules
    ]
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "state": state,
        "error": plugin.error,
        "rules": rules,
    }


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("distribution", "entry point", "state", "rules"):
        table.add_column(name, overflow="fold")
    for plugin in found:
        rules = [
            f"{r['domain'] or 'ai.onnx'}::{r['op']} since {r['since']}"
            + " (overrides a built-in rule)" * r["overrides"]
            for r in plugin["rules"]
        ]
        name = f"{plugin['distribution']} {plugin['version']}"
        cells = ([name], [plugin["entry_point"]], [plugin["state"]], [plugin["error"]] if plugin["error"] else rules)
        table.add_row(*("\n".join(map(cell, lines)) for lines in cells))
    output().print(table)
