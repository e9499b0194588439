"""Non-maximum suppression (NMS) as ONNX nodes after the decoded boxes."""

from typing import TYPE_CHECKING

from mmengine.config import ConfigDict

if TYPE_CHECKING:
    from onnx import ModelProto

_GRAPH = """
nms (float[{n}, B, 4] all_boxes, float[{n}, B, C] all_scores,
     float[{n}, 3, H, W] images)
=> (float[{n}, {keep}, 4] boxes, float[{n}, {keep}] scores,
    int64[{n}, {keep}] labels, int64[{n}] count)
<int64[1] nms_pre = {{{pre}}}, int64[1] nms_keep = {{{keep}}},
 float nms_iou = {{{iou}}}, float nms_thr = {{{thr}}},
 float nms_0f = {{0}}, float nms_minus = {{-1}}, int64 nms_none = {{-1}},
 int64 nms_0 = {{0}}, int64 nms_1 = {{1}},
 int64[1] nms_axis1 = {{1}}, int64[1] nms_axis2 = {{2}},
 int64[2] nms_02 = {{0, 2}}, int64[4] nms_whwh = {{1, 0, 1, 0}}>
{{
  nms_by_class = Transpose <perm = [0, 2, 1]> (all_scores)
  nms_flat = Flatten <axis = 1> (nms_by_class)
  nms_length = Shape <start = 1, end = 2> (nms_flat)
  nms_first = Min (nms_length, nms_pre)
  nms_top, nms_top_at = TopK <axis = 1> (nms_flat, nms_first)
  nms_least = ReduceMin <keepdims = 1> (nms_top, nms_axis1)
  nms_floor = Unsqueeze (nms_least, nms_axis2)
  nms_allowed = GreaterOrEqual (nms_by_class, nms_floor)
  nms_scores = Where (nms_allowed, nms_by_class, nms_0f)
  nms_picks = NonMaxSuppression (all_boxes, nms_scores, nms_keep, nms_iou, nms_thr)

  nms_image = Gather <axis = 1> (nms_picks, nms_0)
  nms_class = Gather <axis = 1> (nms_picks, nms_1)
  nms_place = Gather <axis = 1> (nms_picks, nms_02)
  nms_score = GatherND (nms_scores, nms_picks)
  nms_box = GatherND (all_boxes, nms_place)

  nms_batch = Shape <start = 0, end = 1> (all_boxes)
  nms_n = Squeeze (nms_batch)
  nms_range = Range (nms_0, nms_n, nms_1)
  nms_rows = Unsqueeze (nms_range, nms_axis1)
  nms_own = Equal (nms_rows, nms_image)
  nms_table = Where (nms_own, nms_score, nms_minus)
  nms_fill_shape = Concat <axis = 0> (nms_batch, nms_keep)
  nms_fill = Expand (nms_minus, nms_fill_shape)
  nms_padded = Concat <axis = 1> (nms_table, nms_fill)
  nms_best, nms_at = TopK <axis = 1> (nms_padded, nms_keep)
  nms_found = Greater (nms_best, nms_0f)
  scores = Relu (nms_best)
  nms_ones = Cast <to = 7> (nms_found)
  count = ReduceSum <keepdims = 0> (nms_ones, nms_axis1)

  nms_fill_label = Expand (nms_none, nms_keep)
  nms_labels = Concat <axis = 0> (nms_class, nms_fill_label)
  nms_label = Gather (nms_labels, nms_at)
  labels = Where (nms_found, nms_label, nms_none)

  nms_four = Shape <start = 2, end = 3> (all_boxes)
  nms_fill_box_shape = Concat <axis = 0> (nms_keep, nms_four)
  nms_fill_box = Expand (nms_0f, nms_fill_box_shape)
  nms_boxes = Concat <axis = 0> (nms_box, nms_fill_box)
  nms_raw = Gather (nms_boxes, nms_at)
  nms_found_box = Unsqueeze (nms_found, nms_axis2)
  nms_filled = Where (nms_found_box, nms_raw, nms_0f)
  nms_low = Relu (nms_filled)
  nms_size = Shape <start = 2, end = 4> (images)
  nms_limit_int = Gather (nms_size, nms_whwh)
  nms_limit = Cast <to = 1> (nms_limit_int)
  boxes = Min (nms_low, nms_limit)
}}
"""


def check_test_cfg(cfg: ConfigDict) -> None:
    """Raise an error if `append_nms` does not support a `test_cfg`.

    Raises:
        ValueError: It has an NMS other than class-wise `nms`, no limit of detections, a
            negative threshold, or an unknown key.
    """
    known = {'score_thr', 'nms_pre', 'nms', 'max_per_img'}
    nms = dict(cfg.get('nms') or {})
    kind, iou = nms.pop('type', 'nms'), nms.pop('iou_threshold', None)
    if set(cfg) - known or nms or kind != 'nms' or iou is None:
        raise ValueError(
            'exported NMS supports score_thr, nms_pre, max_per_img and '
            f"nms=dict(type='nms', iou_threshold=...) in test_cfg, got {dict(cfg)}. "
            'Change it, or export without NMS'
        )
    if cfg.get('max_per_img', 0) < 1 or cfg.get('score_thr', -1) < 0:
        raise ValueError(
            'exported NMS needs max_per_img >= 1 and score_thr >= 0 in test_cfg, got '
            f'{cfg.get("max_per_img")} and {cfg.get("score_thr")}'
        )


def append_nms(model: 'ModelProto', cfg: ConfigDict) -> None:
    """Append class-wise NMS, equivalent to that of the head, in place.

    Per image, the `nms_pre` best (box, class) pairs above `score_thr`, including ties
    with the last one, enter NMS. The `max_per_img` best results are returned, best
    first and clipped to the input, padded with boxes and scores of 0 and labels of -1.

    Args:
        model (ModelProto): Input `images` (N, 3, H, W), outputs `all_boxes` (N, B, 4)
            and `all_scores` (N, B, C). Its outputs become `boxes` (N, K, 4), `scores`
            (N, K), `labels` (N, K) and `count` (N,), K = `max_per_img`.
        cfg (ConfigDict): `test_cfg` of the detector, see `check_test_cfg`.
    """
    from onnx.parser import parse_graph

    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    text = _GRAPH.format(
        n=batch.dim_param or batch.dim_value,
        pre=cfg.get('nms_pre', 30000),
        keep=cfg.max_per_img,
        iou=float(cfg.nms.iou_threshold),
        thr=float(cfg.score_thr),
    )
    graph = parse_graph(text)
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    del model.graph.output[:]
    model.graph.output.extend(graph.output)
