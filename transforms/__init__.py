"""What a symmetry is good for: compare, align, merge and prune networks, change one by a random symmetry.

Works on ONNX files by their parameter graphs; every result is checked in ONNX Runtime. Imports no torch.

* `diff`, `align`, `merge`, `prune` and `scramble` are the verbs, one module each; `passes` has them for onnx-ir.
* `correspondence` says which parameters of two networks stand for each other, by `renumbering` also where their layers
  come in another order; `similarity` how well a position of one fits a position of the other, `matching` finds the best
  order, `rescaling` the best signs and scales, `mixing` the best matrices; `averages` merges tensors.
* `distance` and `proof` measure the result, the first by the `layers` that people know.
"""

from .align import Alignment, align
from .correspondence import Correspondence, correspondence
from .diff import Difference, diff, fingerprints
from .distance import LayerDistance, TensorDistance, distance
from .line import Line
from .matching import Matching, match
from .merge import Merged, merge
from .passes import Prune
from .proof import Proof, prove
from .prune import NothingToPrune, prune
from .pruning.report import FamilyReport, Pruned
from .scramble import Scrambled, scramble

__all__ = [
    "Alignment",
    "Correspondence",
    "Difference",
    "FamilyReport",
    "LayerDistance",
    "Line",
    "Matching",
    "Merged",
    "NothingToPrune",
    "Proof",
    "Prune",
    "Pruned",
    "Scrambled",
    "TensorDistance",
    "align",
    "correspondence",
    "diff",
    "distance",
    "fingerprints",
    "match",
    "merge",
    "prove",
    "prune",
    "scramble",
]
