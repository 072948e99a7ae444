"""Explain the state of a call, by replay. Call it as `AppConsumer.explain`.

Programs that show call graphs can also explain a call by its hash, draw it, redrive it or forget it.
"""

from brrr_explain.drawing import as_json, as_mermaid, as_svg, lines
from brrr_explain.explaining import explain, explain_of
from brrr_explain.forgetting import ForgottenTree, forget
from brrr_explain.graph import Explanation, Node, Problem, State
from brrr_explain.redriving import Redriven, redrive

__all__ = [
    "Explanation",
    "ForgottenTree",
    "Node",
    "Problem",
    "Redriven",
    "State",
    "as_json",
    "as_mermaid",
    "as_svg",
    "explain",
    "explain_of",
    "forget",
    "lines",
    "redrive",
]
