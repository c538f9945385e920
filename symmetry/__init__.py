"""Symmetries of parameter graphs: changes of the parameters that leave the network's function unchanged.

Imports neither ONNX nor torch. To read it, take the modules in this order:

* The objects: `automorphism` (permutations of nodes and their action on parameters), `rescaling` (signs and scales),
  `symmetries` (all of a graph), `report` (the same as text).
* Finding permutations: `incidence` (the graph in the form that is searched), `closure` (what one swap forces), `ties`
  (what weight sharing forces), `lockstep` (whole classes at once), `find` (generators), `group` (the order).
* Finding signs and scales: `homogeneity` (degrees and parities of steps), `signals`, `scaling_equations`, `sharing`,
  `linear` (the solver).
* Comparing graphs: `isomorphism` (colour refinement with values), `refinement` (its loop, shared with
  `incidence`).
"""

from .automorphism import Automorphism, apply, compose, describe, verify_exact
from .find import Rejection, swap
from .isomorphism import colours, fingerprint, isomorphic
from .report import SymmetryFamily
from .rescaling import KINDS, Product, Rescaling, Rescalings, checked_kinds, product
from .symmetries import Symmetries, symmetries

__all__ = [
    "KINDS",
    "Automorphism",
    "Product",
    "Rejection",
    "Rescaling",
    "Rescalings",
    "Symmetries",
    "SymmetryFamily",
    "apply",
    "checked_kinds",
    "colours",
    "compose",
    "describe",
    "fingerprint",
    "isomorphic",
    "product",
    "swap",
    "symmetries",
    "verify_exact",
]
