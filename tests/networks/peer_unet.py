"""Run by the peers' interpreter: nnU-Net's own network with the weights of given.safetensors, in their order."""

import json
import sys
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet


def read_tensors(path):
    """Read safetensors without the package, which the peers may lack: length, JSON header, float32 data."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    return {
        name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]), dtype=torch.float32).view(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        content = tensor.contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main(folder):
    architecture = json.loads((folder / "architecture.json").read_text())
    arguments, flat = architecture["arguments"], architecture["dimensions"] == 2
    residual = architecture["kind"] == "residual_unet"
    blocks = {"n_blocks_per_stage" if residual else "n_conv_per_stage": arguments["blocks"]}
    network = (ResidualEncoderUNet if residual else PlainConvUNet)(
        input_channels=architecture["input_channels"],
        n_stages=len(arguments["features"]),
        features_per_stage=arguments["features"],
        conv_op=torch.nn.Conv2d if flat else torch.nn.Conv3d,
        kernel_sizes=arguments["kernels"],
        strides=arguments["strides"],
        num_classes=architecture["output_channels"],
        n_conv_per_stage_decoder=arguments["decoder_blocks"],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d if flat else torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **blocks,
    )
    given = read_tensors(folder / "given.safetensors")
    weights = [given[name] for name in sorted(given) if name != "x"]
    parameters = list(network.parameters())
    assert [tuple(item.shape) for item in parameters] == [tuple(item.shape) for item in weights]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights):
            parameter.copy_(weight)
        outputs = network(given["x"])
    write_tensors(folder / "found.safetensors", {str(index): item for index, item in enumerate(outputs)})
    (folder / "report.json").write_text(json.dumps({"parameters": sum(item.numel() for item in parameters)}))


main(Path(sys.argv[1]))
