"""identity: what makes a model another model."""

from samling.recipes.identity import fingerprint


def test_another_checkpoint_size_or_family_is_another_model(tmp_path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    names = [str(path), f"{path}@512", f"medsam:{path}"]
    before = [fingerprint(name) for name in names]
    path.write_bytes(b"other")
    after = [fingerprint(name) for name in names]
    assert len({*before, *after}) == 6
    assert fingerprint(names[1]) == after[1]
