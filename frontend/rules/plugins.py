"""Rules of other distributions, in the entry-point group `gmnc.rules`, loaded at the first lowering."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from ...ir.vocabulary import declared_steps, keep_steps
from .foreign import quiet
from .registry import Registry, Rule, builtin

__all__ = ["GROUP", "Plugin", "enabled", "installed", "plugins"]

GROUP = "gmnc.rules"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of the group.

    distribution, version: of the installed package. entry_point: ``name = module:function`` or ``name = module``.
    rules: the rules that it adds. error: why it adds none, "" if it does.
    """

    distribution: str
    version: str
    entry_point: str
    rules: tuple[Rule, ...] = ()
    error: str = ""


def enabled() -> bool:
    """Whether plug-ins are loaded: unless the environment variable ``GMNC_PLUGINS`` is 0."""
    return os.environ.get("GMNC_PLUGINS", "").strip() != "0"


def plugins() -> tuple[Plugin, ...]:
    """The installed plug-ins, sorted by distribution; without rules if they are switched off."""
    if enabled():
        return _loaded()
    return tuple(_describe(entry) for entry in _entries())


def installed() -> Registry:
    """The rules that `gmnc.compile` uses by default: those of plug-ins, over the built-in ones.

    A plug-in that cannot be loaded is left out as a whole, with one warning. For one compilation with your own rules,
    add them to ``installed().overlay()`` and pass that as `registry`.
    """
    return _registry() if enabled() else builtin()


@cache
def _registry() -> Registry:
    registry = builtin().overlay()
    for plugin in _loaded():
        if plugin.error:
            warnings.warn(
                f"the plug-in {plugin.distribution} {plugin.version} ({plugin.entry_point}) is left out: "
                f"{plugin.error}; update or remove it, or set GMNC_PLUGINS=0",
                RuntimeWarning,
                stacklevel=2,
            )
        for rule in plugin.rules:
            registry.add(rule)
    return registry


@cache
def _loaded() -> tuple[Plugin, ...]:
    """All plug-ins, loaded in order; one with a rule that an earlier one already has is left out."""
    found: list[Plugin] = []
    everything = Registry()
    for entry in _entries():
        plugin, before = _describe(entry), [step.name for step in declared_steps()]
        try:
            with quiet():
                rules = [replace(r, origin=f"{plugin.distribution} {plugin.version}") for r in _rules(entry)]
            _merge(everything, rules)
            plugin = replace(plugin, rules=tuple(rules))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            keep_steps(before)
            plugin = replace(plugin, error=f"{type(error).__name__}: {error}")
        found.append(plugin)
    return tuple(found)


def _entries() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda e: (e.dist.name.lower() if e.dist else "", e.name, e.value))


def _describe(entry: EntryPoint) -> Plugin:
    name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown distribution", "")
    return Plugin(name, version, f"{entry.name} = {entry.value}")


def _rules(entry: EntryPoint) -> list[Rule]:
    """The rules of an entry point: the `@rule`s of a module, or what a function adds to the registry that it gets."""
    registry = builtin().overlay()
    target = entry.load()
    if isinstance(target, ModuleType):
        registry.include(target.__name__)
    elif callable(target):
        target(registry)
    else:
        raise TypeError(f"{entry.value} is neither a module nor a function that takes a registry")
    rules = [rule for versions in registry.rules.values() for rule in versions]
    if not rules:
        raise ValueError("it adds no rules")
    return rules


def _merge(everything: Registry, rules: list[Rule]) -> None:
    """Add all rules, or raise `ValueError` and add none."""
    for rule in rules:
        other = next((r for r in everything.rules.get((rule.domain, rule.op), ()) if r.since == rule.since), None)
        if other is not None:
            raise ValueError(f"{other.origin} already has a rule for {rule}")
    for rule in rules:
        everything.add(rule)
