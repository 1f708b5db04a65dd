"""Writes small networks with random weights by PyTorch's exporter, each with inputs, outputs and the losses of twenty steps.

    python scripts/onnx_models.py FOLDER [NAME ..]

For each network NAME.onnx, and NAME.json: inputs, labels, the outputs before any step, and what stochastic gradient descent
makes of the loss. `tests/onnx/whole.rs` compares Kiln with them; those in tests/data/onnx/models were written by this script.
"""

import json
import pathlib
import sys
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_a = nn.BatchNorm2d(channels)
        self.b = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_b = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.norm_a(self.a(x)))
        return torch.relu(x + self.norm_b(self.b(y)))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.block = Residual(6)
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 2)
        x = torch.relu(self.down(self.block(x)))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 0.1)
        self.place = nn.Parameter(torch.randn(1, 5, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.fc(self.encoder(x)[:, 0])


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.places = nn.Embedding(6, 16)
        self.norm = nn.LayerNorm(16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        places = torch.arange(x.shape[1]).unsqueeze(0)
        x = self.norm(self.words(x) + self.places(places))
        return self.fc(torch.tanh(self.encoder(x).mean(1)))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(self.lstm(self.words(x))[0]).flatten(0, 1)


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(10, 6)
        self.items = nn.Embedding(12, 6)
        self.deep = nn.Sequential(nn.Linear(12, 16), nn.SiLU(), nn.Linear(16, 4))

    def forward(self, x):
        user, item = self.users(x[:, 0]), self.items(x[:, 1])
        return self.deep(torch.cat([user, item], 1)) + (user * item).sum(1, keepdim=True)


class MobileBlock(nn.Module):
    def __init__(self, inputs, wide, outputs, stride):
        super().__init__()
        self.same = stride == 1 and inputs == outputs
        self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        depth = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False)
        self.depth = nn.Sequential(depth, nn.BatchNorm2d(wide), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.ReLU(), nn.Conv2d(4, wide, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.depth(self.expand(x))
        y = self.project(y * self.squeeze(y))
        return x + y if self.same else y


class MobileNet(nn.Module):
    """The blocks of MobileNetV3 (Howard et al. 2019)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Hardswish())
        self.blocks = nn.Sequential(MobileBlock(6, 12, 6, 1), MobileBlock(6, 16, 8, 2))
        self.head = nn.Sequential(nn.Linear(8, 16), nn.Hardswish(), nn.Dropout(0.0), nn.Linear(16, 4))

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def double(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Two levels (Ronneberger et al. 2015), one up by a transposed convolution, one by interpolation."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.deep = double(3, 4), double(4, 6), double(6, 8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.back, self.last = double(12, 4), double(8, 4)
        self.classes = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        a = self.first(x)
        b = self.second(nn.functional.max_pool2d(a, 2))
        c = self.up(self.deep(nn.functional.max_pool2d(b, 2)))
        c = self.back(torch.cat([b, c], 1))
        c = nn.functional.interpolate(c, scale_factor=2, mode="bilinear", align_corners=False)
        y = self.classes(self.last(torch.cat([a, c], 1)))
        return y.permute(0, 2, 3, 1).flatten(0, 2)


class Gpt2Block(nn.Module):
    def __init__(self, width, heads, places):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.tril(torch.ones(places, places, dtype=torch.bool)).view(1, 1, places, places))

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(~self.mask[:, :, :length, :length], float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.proj(y)
        return x + self.out(nn.functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """GPT-2 (Radford et al. 2019), with masks as buffers and one table for words going in and out."""

    def __init__(self, words=20, places=8, width=16, heads=2, layers=1):
        super().__init__()
        self.wte, self.wpe, self.ln_f = nn.Embedding(words, width), nn.Embedding(places, width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Gpt2Block(width, heads, places) for _ in range(layers)))

    def forward(self, x):
        x = self.blocks(self.wte(x) + self.wpe(torch.arange(x.shape[1])))
        return (self.ln_f(x) @ self.wte.weight.t()).flatten(0, 1)


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016), with the stem that small images have."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        blocks, inputs = [], 64
        for stage, outputs in enumerate([64, 128, 256, 512]):
            for number in range(2):
                blocks.append(ResidualDown(inputs, outputs, 2 if stage and not number else 1))
                inputs = outputs
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(512, 10)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ResidualDown(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.b, self.norm_b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.around = None
        if inputs != outputs:
            self.around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.norm_b(self.b(torch.relu(self.norm_a(self.a(x)))))
        return torch.relu(y + (x if self.around is None else self.around(x)))


def images():
    return torch.randn(6, 3, 8, 8)


CASES = {
    "resnet": (ResNet, images, 6),
    "mobilenet": (MobileNet, images, 6),
    "unet": (UNet, lambda: torch.randn(2, 3, 8, 8), 128),
    "gpt2": (Gpt2, lambda: torch.randint(0, 20, (3, 6)), 18),
    "vit": (Vit, images, 6),
    "bert": (Bert, lambda: torch.randint(0, 20, (6, 6)), 6),
    "tagger": (Tagger, lambda: torch.randint(0, 20, (3, 5)), 15),
    "recommender": (Recommender, lambda: torch.stack([torch.randint(0, 10, (6,)), torch.randint(0, 12, (6,))], 1), 6),
}


# Of true size, for `benches/imported.rs`: written where they are named, without losses, with their numbers in a file beside.
LARGE = {
    "resnet18": (ResNet18, lambda: torch.randn(2, 3, 32, 32)),
    "gpt2_small": (lambda: Gpt2(50257, 1024, 768, 12, 12), lambda: torch.randint(0, 50257, (1, 64))),
}


def numbers(tensor):
    return {"shape": list(tensor.shape), "values": [float(value) for value in tensor.detach().flatten()]}


def write_large(root, name):
    import onnx

    make, draw = LARGE[name]
    net, path = make().train(), str(root / f"{name}.onnx")
    torch.onnx.export(
        net, (draw(),), path, input_names=["x"], output_names=["y"], dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False, opset_version=17, dynamic_axes={"x": {0: "batch"}},
    )
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location=f"{name}.onnx.data", size_threshold=1024)
    print(name, sum(p.numel() for p in net.parameters()), "parameters")


def main():
    root = pathlib.Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        if name in LARGE:
            write_large(root, name)
    for name, (make, draw, count) in CASES.items():
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        torch.manual_seed(7)
        net, x = make(), draw()
        labels = torch.randint(0, 4, (count,))
        net.train()
        path = str(root / f"{name}.onnx")
        kept = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(
            net, (x,), path, input_names=["x"], output_names=["logits"], dynamo=False, training=kept, do_constant_folding=False,
            opset_version=17, dynamic_axes={"x": {0: "batch"}},
        )
        net.eval()
        outputs = net(x)
        net.train()
        step = torch.optim.SGD(net.parameters(), lr=0.05)
        losses = []
        for _ in range(20):
            loss = nn.functional.cross_entropy(net(x), labels)
            step.zero_grad()
            loss.backward()
            step.step()
            losses.append(loss.item())
        case = {"input": numbers(x), "labels": labels.tolist(), "outputs": numbers(outputs), "losses": losses}
        (root / f"{name}.json").write_text(json.dumps(case))
        print(name, sum(p.numel() for p in net.parameters()), "parameters", losses[0], losses[-1])


main()
