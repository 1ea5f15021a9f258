"""Run by the peers' interpreter: nnU-Net's own network of the plans in a folder, with random weights.

Writes fold_0 and fold_1 as nnU-Net does; `x.npy`, `logits_0.npy`, `logits_1.npy`: a patch and what each fold's network
says of it; `labels.npy`: what nnU-Net's predictor says of `scan.nii.gz` with both folds.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


def checkpoint(network, configuration):
    """What nnUNetTrainer.save_checkpoint writes; its curves are lists of NumPy numbers."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    sum(item.square().sum() for item in network.parameters()).backward()
    optimizer.step()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)], "lrs": [0.01], "dice": [[np.float64(0.1)]]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {"configuration": configuration, "fold": 0, "plans": {}, "dataset_json": {}},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(range((network.encoder.conv_op is torch.nn.Conv3d and 3) or 2)),
    }


class Wide:
    """torch whose `half` is float32: windows weigh down to 6e-8 at their corners, where half precision loses sums."""

    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


def main(folder, configuration):
    plans = json.loads((folder / "plans.json").read_text())
    settings = plans["configurations"][configuration]
    architecture = settings["architecture"]
    torch.manual_seed(0)
    x = torch.randn(2, 1, *settings["patch_size"])
    np.save(folder / "x.npy", x.numpy())
    for fold in (0, 1):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            1,
            3,
            deep_supervision=True,
        )
        with torch.no_grad():
            for item in network.parameters():
                # Norms stay near their start, so that the classes compete everywhere.
                item.copy_(0.15 * torch.randn_like(item) if item.dim() > 1 else item + 0.05 * torch.randn_like(item))
        network.eval()
        network.decoder.deep_supervision = False
        with torch.no_grad():
            # Every class is the largest somewhere, whatever was drawn.
            head = network.decoder.seg_layers[-1]
            head.bias -= network(x).transpose(0, 1).flatten(1).mean(1)
        network.decoder.deep_supervision = True
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint(network, configuration), folder / f"fold_{fold}" / "checkpoint_final.pth")
        network.decoder.deep_supervision = False
        with torch.no_grad():
            np.save(folder / f"logits_{fold}.npy", network(x).numpy())
    predict_from_raw_data.torch = Wide()
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), ("0", "1"), "checkpoint_final.pth")
    image, properties = SimpleITKIO().read_images([str(folder / "scan.nii.gz")])
    np.save(folder / "labels.npy", predictor.predict_single_npy_array(image, properties, None, None, False))


main(Path(sys.argv[1]), sys.argv[2])
