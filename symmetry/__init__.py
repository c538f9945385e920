"""Symmetries of parameter graphs: changes of the parameters that leave the network's function unchanged.

Imports neither ONNX nor torch. To read it, take the modules in this order:

* The objects: `automorphism` (permutations of nodes and their action on parameters), `rescaling` (signs and scales),
  `mixing` (matrices), `products`, `symmetries` (all of a graph), `report` (the same as text).
* Finding permutations: `incidence` (the graph in the form that is searched), `tied_rows` (weight sharing as arcs of
  it), `passed_blocks` (edge blocks in vias), `closure` (what one swap forces), `ties` (sharing between sites of
  different form, and its proof), `lockstep` (whole classes at once), `find` (generators), `group` (the order).
* Finding signs and scales: `homogeneity` (degrees and parities of steps), `signals`, `scaling_equations`, `sharing`,
  `linear` (the solver).
* Finding matrices: `spaces` (what they change), `space_search`, `rows`, `space_links`, `space_sharing` (the checks).
* Comparing graphs: `isomorphism` (colour refinement with values), `refinement` (its loop, shared with
  `incidence`).
"""

from .automorphism import Automorphism, apply, compose, describe, verify_exact
from .find import Rejection, swap
from .interchange import Interchangeable, interchangeable
from .isomorphism import colours, fingerprint, isomorphic
from .kinds import KINDS, checked_kinds, plural
from .mixing import Mixing, Mixings
from .products import Factor, Product, product
from .report import SymmetryFamily
from .rescaling import Rescaling, Rescalings
from .spaces import Space
from .symmetries import Symmetries, symmetries

__all__ = [
    "KINDS",
    "Automorphism",
    "Factor",
    "Interchangeable",
    "Mixing",
    "Mixings",
    "Product",
    "Rejection",
    "Rescaling",
    "Rescalings",
    "Space",
    "Symmetries",
    "SymmetryFamily",
    "apply",
    "checked_kinds",
    "colours",
    "compose",
    "describe",
    "fingerprint",
    "interchangeable",
    "isomorphic",
    "plural",
    "product",
    "swap",
    "symmetries",
    "verify_exact",
]
