"""Two processes and one, on the same batches: an encoder, a decoder, fifty steps, an odd batch."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs samling[train]")

from samling.training.distributed import gathered, own_rows, world  # noqa: E402

SCRIPT = """
import json, os, sys, torch
from samling.training.distributed import average_gradients, gathered, own_rows, together
torch.set_num_threads(1)
with together() as number:
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(6, 5), torch.nn.Linear(5, 1)
    images, targets = torch.randn(50, 7, 6), torch.randn(50, 7, 1)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for batch, wanted in zip(images, targets):
        encoded = gathered(torch.tanh(encoder(batch[own_rows(7)])), 7)
        loss = (decoder(encoded) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        average_gradients(parameters)
        optimizer.step()
        losses.append(loss.item())
    if number == 0:
        open(sys.argv[1], "w").write(json.dumps(losses))
tasks = "/proc/self/task"  # of Linux alone
names = [open(f"{tasks}/{t}/comm").read() for t in os.listdir(tasks)] if os.path.isdir(tasks) else []
assert not any("gloo" in name for name in names), names  # they may abort Python as it ends
"""


def losses(path, *command):
    script = path.with_suffix(".py")
    script.write_text(SCRIPT)
    subprocess.run([*command, str(script), str(path)], check=True)  # a failure shows its words
    return json.loads(path.read_text())


def test_two_processes_train_as_one_does(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = losses(tmp_path / "two.json", *launch)
    one = losses(tmp_path / "one.json", sys.executable)
    assert len(one) == 50
    assert one[0] != one[-1]
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) <= 1e-5


def test_alone_nothing_is_shared():
    part = torch.arange(3.0)
    assert world() == 1
    assert own_rows(3).tolist() == [0, 1, 2]
    assert gathered(part, 3) is part
