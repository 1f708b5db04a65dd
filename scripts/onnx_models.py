"""Writes small networks with random weights by PyTorch's exporter, each with inputs, outputs and the losses of twenty steps.

    python scripts/onnx_models.py FOLDER

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


def images():
    return torch.randn(6, 3, 8, 8)


CASES = {
    "resnet": (ResNet, images, 6),
    "vit": (Vit, images, 6),
    "bert": (Bert, lambda: torch.randint(0, 20, (6, 6)), 6),
    "tagger": (Tagger, lambda: torch.randint(0, 20, (3, 5)), 15),
    "recommender": (Recommender, lambda: torch.stack([torch.randint(0, 10, (6,)), torch.randint(0, 12, (6,))], 1), 6),
}


def numbers(tensor):
    return {"shape": list(tensor.shape), "values": [float(value) for value in tensor.detach().flatten()]}


def main():
    root = pathlib.Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for name, (make, draw, count) in CASES.items():
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
