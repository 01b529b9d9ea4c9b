"""Moving images: steady between bounces, black where nothing is, alike in clips of any length; and the classifier's eye for them."""

import torch
from torch import Tensor

from bench.data import clips as module
from bench.data.clips import DIRECTIONS, clips, directions, offsets, shifted
from bench.data.datasets import DataSource, load
from bench.metrics.faithfulness import ssim
from bench.metrics.features import clip_classifier
from bench.metrics.frechet import Statistics, distance, root_of
from bench.training.recipes.clip_classifier import build_clip_classifier, fit_clip_classifier
from tests.oracles import kit_of

COUNT, FRAMES = 400, 12


def noise(count: int, channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, side, side), generator=generator).to(torch.uint8)


def test_speed_is_constant_and_bounces_turn_it() -> None:
    """By stepping one pixel at a time with a sign that turns at the walls, on each axis by itself."""
    for side in (8, 16, 28):
        places, reach, speed = offsets(COUNT, FRAMES, side), side // 4, max(1, side // 8)
        assert int(places.min()) == -reach and int(places.max()) == reach
        for path, way in zip(places.tolist(), directions(COUNT).tolist(), strict=True):
            for axis in (0, 1):
                place, heading = path[0][axis], DIRECTIONS[way][axis]
                for frame in path[1:]:
                    for _ in range(speed if heading else 0):
                        heading = -heading if abs(place + heading) > reach else heading
                        place += heading
                    assert frame[axis] == place


def test_every_direction_is_taken_and_is_the_one_told() -> None:
    ways, places = directions(COUNT), offsets(COUNT, 2, 64)
    assert ways.bincount(minlength=8).min() > COUNT / 8 / 2
    straight = places[:, 0] + 8 * torch.tensor(DIRECTIONS)[ways]
    free = (straight.abs() <= 16).all(1)  # what meets no wall on its way
    assert int(free.sum()) > COUNT / 4 and torch.equal(places[free, 1], straight[free])


def test_frames_are_the_image_moved_onto_black() -> None:
    images = noise(20, 3, 8)
    made, places = clips(images, 5), offsets(20, 5, 8)
    assert made.dtype == torch.uint8 and made.shape == (20, 5, 3, 8, 8)
    for n in range(20):
        for f in range(5):
            down, right = places[n, f].tolist()
            for row in range(8):
                for column in range(8):
                    y, x = row - down, column - right
                    seen = 0 <= y < 8 and 0 <= x < 8
                    assert made[n, f, :, row, column].tolist() == (images[n, :, y, x].tolist() if seen else [0, 0, 0])


def test_at_rest_an_image_is_itself() -> None:
    images = noise(3, 1, 8)
    assert torch.equal(shifted(images, torch.zeros(3, 2, 2, dtype=torch.int64))[:, 1], images)


def test_longer_clips_begin_as_shorter_ones() -> None:
    images = noise(30, 1, 8)
    assert torch.equal(clips(images, 9)[:, :4], clips(images, 4))
    assert not torch.equal(clips(images, 9)[:, 1:5], clips(images, 4))


def test_motion_belongs_to_the_place_in_the_set_and_moves_no_global_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = offsets(10, 4, 8)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(first, offsets(10, 4, 8)) and module.MOTION_SEED


def test_structural_similarity_of_clips_is_that_of_their_frames() -> None:
    made, wanted = clips(noise(6, 3, 8), 4), clips(noise(6, 3, 16)[..., 4:12, 4:12], 4)
    of_frames = ssim(made.flatten(0, 1), wanted.flatten(0, 1)).reshape(6, 4)
    assert torch.allclose(ssim(made, wanted), of_frames.mean(1)) and float(of_frames.std()) > 1e-3


def test_classifier_of_clips_tells_shuffled_frames_from_real_ones() -> None:
    """Trained for a moment, its Frechet distance of held-out clips grows where frames are out of order, though each is real."""
    data = load("digits", DataSource())
    kit = kit_of(data.train_images, data.train_labels, train_images=2560, train_batch=32)
    extractor = clip_classifier("digits", fit_clip_classifier(build_clip_classifier(kit), kit, "clip classifier"))
    held_out = clips(data.test_images, 4)
    root = root_of(Statistics.of(extractor(clips(data.train_images, 4), kit.device).pooled))
    real, shuffled, frozen = (
        distance(Statistics.of(extractor(part, kit.device).pooled), root)
        for part in (held_out, held_out[:, [2, 0, 3, 1]], held_out[:, [0] * 4])
    )
    assert 3 * real < shuffled < frozen
