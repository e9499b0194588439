"""YOLOv5 as a detector: losses, folding, checkpoints with other classes, export."""

import pytest
import torch
import yolov7_reference as ref7
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from yolo_detector import sample
from yolov5_model import build, trained

from mmir.det.yolov5.convert import convert_checkpoint, export_names


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def test_losses_reach_every_parameter():
    model = build().train()
    boxes = [b._replace(label=b.label % 3) for b in ref7.random_boxes(4, (64, 96), 0)]
    data = [sample((64, 96), boxes), sample((64, 96))]
    losses = model.loss(torch.rand(2, 3, 64, 96), data)
    assert {*losses} == {'loss_box', 'loss_obj', 'loss_cls'}
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_it_learns_an_image():
    model = build().train()
    data = [sample((64, 64), [ref7.Box(30, 34, 24, 30, 1)])]
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, 19:49, 18:42] = 1.0
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    totals = []
    for _ in range(60):
        loss = sum(model.loss(image, data).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0] / 2


@torch.no_grad()
def test_deployed_it_predicts_the_same():
    model = trained().double()
    x = images(2, 3, 64, 96)
    expected = model(x)[0]
    assert model.to_deploy() is model
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    for a, b in zip(model(x)[0], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    with pytest.raises(RuntimeError, match='a deployed YOLOv5 cannot train'):
        model.train()
    # weight and bias of each norm become one bias
    assert count(model) == count(trained()) - sum(
        m.num_features for m in trained().modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_a_checkpoint_with_other_classes_leaves_the_output_layers(tmp_path):
    torch.manual_seed(1)
    source = {
        k: torch.rand_like(v) if v.is_floating_point() else v
        for k, v in trained('n', 80).state_dict().items()
    }
    torch.save(export_names(source, 'n'), tmp_path / 'n.pt')
    convert_checkpoint(tmp_path / 'n.pt', tmp_path / 'n.pth')
    model = build('n', 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_checkpoint(model, str(tmp_path / 'n.pth'), map_location='cpu')
    for key, value in model.state_dict().items():
        expected = before if 'convs_pred' in key else source
        torch.testing.assert_close(value, expected[key], msg=key)


@pytest.mark.slow
def test_exported_it_gives_the_same_boxes(tmp_path):
    pytest.importorskip('onnxscript')
    onnx = pytest.importorskip('onnx')
    from mmir.det.yolo.onnx_check import run_onnx
    from mmir.det.yolo.onnx_export import Settings, export_onnx

    model = trained()
    found = export_onnx(model, tmp_path / 'n.onnx', Settings((64, 96)))
    assert found.good
    rgb = (images(1, 3, 64, 96) * 255).float()
    boxes, scores = run_onnx(onnx.load(tmp_path / 'n.onnx'), rgb)
    with torch.no_grad():
        ours = model.bbox_head.decode_maps(model(rgb / 255)[0])
    torch.testing.assert_close(torch.from_numpy(boxes), ours[0], rtol=1e-4, atol=0.01)
    torch.testing.assert_close(torch.from_numpy(scores), ours[1], rtol=1e-3, atol=2e-4)
