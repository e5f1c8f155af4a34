"""The edge installation has no PyTorch: prediction must never need what only the extras bring."""

import subprocess
import sys

MODULES = (
    "samling.inference.segmenter, samling.inference.predictor, samling.inference.automatic, "
    "samling.inference.measure, samling.inference.overlay, samling.inference.results, "
    "samling.inference.bundle, samling.inference.onnx_backend, samling.inference.openvino_graph, "
    "samling.recipes.predict, samling.recipes.load, samling.recipes.fetch, samling.recipes.doctor, "
    "samling.recipes.export, samling.cli"
)
EXTRAS = ("torch", "transformers", "h5py", "matplotlib", "onnx", "safetensors", "openvino")


def test_prediction_imports_nothing_of_the_extras():
    code = f"import sys, {MODULES}; print([m for m in {EXTRAS} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
