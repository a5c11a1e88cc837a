"""Runs inside Marabou's own environment, on one question in a JSON file; the answer goes to the file that the question names.

It may import what is installed there only: nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["main"]


def _reads_differences(parsing: Any, equation: Any) -> None:
    """Teach its ONNX reader `a - b` for two computed tensors; as released it subtracts constants only."""
    constants_only = parsing.subEquations

    def subtracted(self: Any, node: Any, makeEquations: bool) -> None:
        first, second = node.input
        if first in self.constantMap or second in self.constantMap:
            constants_only(self, node, makeEquations)
            return
        name = node.output[0]
        self.shapeMap[name] = self.shapeMap[first]
        if not makeEquations:
            return
        sides = self.varMap[first].reshape(-1), self.varMap[second].reshape(-1)
        for a, b, out in zip(*sides, self.makeNewVariables(name).reshape(-1), strict=True):
            stated = equation()
            stated.addAddend(1, a)
            stated.addAddend(-1, b)
            stated.addAddend(-1, out)
            stated.setScalar(0.0)
            self.query.addEquation(stated)

    parsing.subEquations = subtracted


def _reads_masks(parsing: Any, equation: Any) -> None:
    """Teach its ONNX reader products with a constant tensor; as released it multiplies by one number only."""
    numpy = import_module("numpy")

    def multiplied(self: Any, node: Any, makeEquations: bool) -> None:
        first, second = node.input
        name, factors = node.output[0], self.constantMap[second]
        self.shapeMap[name] = self.shapeMap[first]
        if not makeEquations:
            return
        every = numpy.broadcast_to(factors, self.varMap[first].shape).reshape(-1)
        for x, factor, out in zip(self.varMap[first].reshape(-1), every, self.makeNewVariables(name).reshape(-1), strict=True):
            stated = equation()
            stated.addAddend(float(factor), x)
            stated.addAddend(-1, out)
            stated.setScalar(0.0)
            self.query.addEquation(stated)

    parsing.mulEquations = multiplied


def _decided(question: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    marabou, utils = import_module("maraboupy.Marabou"), import_module("maraboupy.MarabouUtils")
    parsing = import_module("maraboupy.parsers.ONNXParser").ONNXParser
    _reads_differences(parsing, utils.Equation)
    _reads_masks(parsing, utils.Equation)
    unsure = ""
    for number, (rows, bounds) in enumerate(question["disjuncts"]):
        left = question["timeout_s"] - (time.monotonic() - began)
        if left < 1:
            return {"verdict": "timeout", "note": f"{number} of {len(question['disjuncts'])} disjuncts refuted"}
        network: Any = marabou.read_onnx(question["onnx"])
        inputs, outputs = network.inputVars[0].reshape(-1), network.outputVars[0].reshape(-1)
        for variable, low, high in zip(inputs, question["lower"], question["upper"], strict=True):
            network.setLowerBound(int(variable), low)
            network.setUpperBound(int(variable), high)
        for row, bound in zip(rows, bounds, strict=True):
            used = [(int(v), factor) for v, factor in zip(outputs, row, strict=True) if factor != 0]
            network.addInequality([v for v, _ in used], [factor for _, factor in used], bound)
        options = marabou.createOptions(timeoutInSeconds=max(1, int(left)), verbosity=0)
        code, values, _ = network.solve(verbose=False, options=options)
        if code == "sat":
            return {"verdict": "sat", "witness": [values[int(variable)] for variable in inputs]}
        if code == "TIMEOUT":
            return {"verdict": "timeout", "note": f"{number} of {len(question['disjuncts'])} disjuncts refuted"}
        if code != "unsat":
            unsure = f"it said {code} of disjunct {number}"
    return {"verdict": "unknown", "note": unsure} if unsure else {"verdict": "unsat"}


def main() -> None:
    """Answer the question in the file that the first argument names."""
    question = json.loads(Path(sys.argv[1]).read_text())
    try:
        answer = _decided(question)
    except Exception as error:
        answer = {"verdict": "error", "note": " ".join(f"{type(error).__name__}: {error}".split())[:160]}
    Path(question["result"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
