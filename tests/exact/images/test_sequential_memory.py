"""A sequence memorised in weights, against the sequence itself."""

import torch

from aif_dcpc.experiments.sequential_memory.run import asymmetric_hopfield
from aif_dcpc.inference import DCPC, check_model
from aif_dcpc.inference.images import sequential_memory
from aif_dcpc.inference.learning import learn_step


def test_the_graph_is_sound():
    torch.manual_seed(0)
    model = sequential_memory((1, 2, 2), latents=2, hidden=4, noise=0.5, scale=0.5)
    assert check_model(model, {"image": torch.rand(2, 3, 1, 2, 2)}, replicates=0) == ()


def test_a_learned_sequence_comes_back_from_its_first_image():
    torch.manual_seed(0)
    sequence = torch.eye(5)[[0, 3, 1, 4]].unflatten(1, (1, 1, 5))
    model = sequential_memory((1, 1, 5), latents=4, hidden=32)
    engine = DCPC(model, num_particles=4)
    state = engine.init({"image": sequence[None]}, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        state, _ = learn_step(engine, state, optimizer)
    cued, _ = engine.run(engine.init({"image": sequence[None, :1]}), 100)
    recalled = engine.forecast(cued, length=3)["image"].mean(0)[0]
    assert recalled.flatten(1).argmax(1).tolist() == [3, 1, 4]


def test_orthogonal_images_come_back_from_an_asymmetric_hopfield_network():
    binary = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]).float()[:, None, None]
    for sharpness in (None, 20.0):
        assert torch.equal(
            asymmetric_hopfield(binary, binary[0], 2, sharpness=sharpness), binary[1:]
        )
