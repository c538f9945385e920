"""The hierarchy of errors: everything gmnc raises on purpose is a `GmncError`."""

__all__ = [
    "GmncError",
    "GraphError",
    "LoadError",
    "LoweringError",
    "PluginError",
    "StorageWarning",
    "UnsupportedError",
    "VocabularyError",
    "one_line",
    "root_cause",
]


class GmncError(Exception):
    """Base of all errors of gmnc. Its text is one message that says where and what to do next."""


class LoadError(GmncError):
    """The file is not a usable ONNX model: unreadable, truncated, cyclic, dangling, or outside its folder."""


class LoweringError(GmncError):
    """The model is read, but a node contradicts itself (ranks, shapes, attributes)."""


class UnsupportedError(GmncError):
    """The model holds operators without a rule and the policy is `error`. Lists every one of them."""


class PluginError(GmncError):
    """The code of a rule that is not built in (a plug-in's, an overlay's) raised an error while a model was lowered."""

    def __init__(
        self, distribution: str, code: str, where: str, error: BaseException, line: str = "", plugin: bool = True
    ) -> None:
        """Say whose code failed, at which node, and what to do.

        Args:
            distribution: What brought the code, by name and version; empty for code of no installed distribution.
            code: The function of the rule, by its full name.
            where: The node.
            error: What was raised.
            line: The line of the code that raised it.
            plugin: Whether the code was found by an entry point, so that it can be switched off.
        """
        owner = f"of the distribution {distribution}" if distribution else "of no installed distribution"
        advice = "tell its authors, or compile without plug-ins (GMNC_PLUGINS=0)" if plugin else "correct the rule"
        raised = f"raised {type(error).__name__}: {error}{f' ({line})' if line else ''}"
        super().__init__(f"{where}: {code} {owner} {raised}; {advice}")


class GraphError(GmncError):
    """A parameter graph breaks one of its own invariants (see `ParameterGraph.check`)."""


class VocabularyError(GmncError):
    """A rule makes a step, or gives a role, that nothing declares, or declares one that cannot be."""


class StorageWarning(UserWarning):
    """Values were written that the model's stored form (quantised weights) cannot hold exactly."""


def root_cause(error: BaseException) -> str:
    """The first line of what an error was raised from in the end, at most 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def one_line(error: BaseException) -> str:
    """The message of a library's error, however many lines it has, in one of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
