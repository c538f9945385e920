"""The exception hierarchy: every error that gmnc raises on purpose is a `GmncError`."""

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
    """Base class of all errors of gmnc. The message says what is wrong, where, and what to do next."""


class LoadError(GmncError):
    """The file is not a usable ONNX model: unreadable, truncated, cyclic, dangling, or with data outside its folder."""


class LoweringError(GmncError):
    """The model was read, but a node contradicts itself (ranks, shapes, attributes)."""


class UnsupportedError(GmncError):
    """The model has operators without a lowering rule and the policy is "error"; the message lists all of them."""


class PluginError(GmncError):
    """A rule that is not built in (from a plug-in or an overlay) raised an error while a model was lowered.

    Args:
        distribution: Name and version of the distribution that the rule belongs to; "" if it is not installed.
        code: Qualified name of the rule's function.
        where: The node that was lowered.
        error: The error.
        line: The line of code that raised it.
        plugin: Whether the rule was loaded through an entry point, so that it can be switched off.

    Attributes:
        rule: Qualified name of the rule's function, or of its `shapes`.
        where: The node that was lowered.
    """

    def __init__(
        self, distribution: str, code: str, where: str, error: BaseException, line: str = "", plugin: bool = True
    ) -> None:
        owner = f"of the distribution {distribution}" if distribution else "of no installed distribution"
        advice = "tell its authors, or compile without plug-ins (GMNC_PLUGINS=0)" if plugin else "correct the rule"
        self.rule, self.where = code.rpartition(" ")[2], where
        raised = f"raised {type(error).__name__}: {error}{f' ({line})' if line else ''}"
        super().__init__(f"{where}: {code} {owner} {raised}; {advice}")


class GraphError(GmncError):
    """A parameter graph breaks an invariant (see `ParameterGraph.check`), or a permutation is not its automorphism."""


class VocabularyError(GmncError):
    """A rule uses a kind, role or step that is not declared, or declares an invalid one."""


class StorageWarning(UserWarning):
    """Values were written that the model's stored form (quantised weights) cannot represent exactly."""


def root_cause(error: BaseException) -> str:
    """The message of the first error in a chain of `raise ... from`.

    Args:
        error: The last error.

    Returns:
        Its first line, at most 300 characters.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def one_line(error: BaseException) -> str:
    """A library's error message, which may have many lines, on one line.

    Args:
        error: The error.

    Returns:
        At most 300 characters.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
