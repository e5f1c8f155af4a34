"""Randomness is a function of seed, purpose, epoch and step, and of nothing else."""

import itertools

import torch

from samling.training.randomness import generator, seed_weights


def test_the_same_place_draws_the_same_whatever_was_drawn_before():
    generator(0, "order", 1).random(100)
    first = generator(3, "step", 2, 5).random(4)
    assert (first == generator(3, "step", 2, 5).random(4)).all()


def test_other_places_draw_otherwise():
    places = itertools.product((0, 1), ("order", "step"), (0, 1, 2), (0, 1, 2))
    draws = [generator(*place).random() for place in places]
    assert len(set(draws)) == len(draws)


def test_new_weights_follow_their_seed():
    weights = []
    for seed in (1, 1, 2):
        seed_weights(seed)
        weights.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
