"""Symmetries of parameter graphs: permutations, signs and scales that leave the function as it is. Knows no ONNX."""

from .automorphism import Automorphism
from .find import swap
from .isomorphism import colours, fingerprint, isomorphic
from .report import SymmetryFamily
from .rescaling import Product, Rescaling, Rescalings
from .symmetries import Symmetries, symmetries

__all__ = [
    "Automorphism",
    "Product",
    "Rescaling",
    "Rescalings",
    "Symmetries",
    "SymmetryFamily",
    "colours",
    "fingerprint",
    "isomorphic",
    "swap",
    "symmetries",
]
