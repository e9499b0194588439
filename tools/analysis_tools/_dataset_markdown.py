"""Write a dataset report as Markdown."""

from mmir.utils.files import few


def snippet(rows: dict[str, dict]) -> str:
    """Write the `modalities` setting of the paired preprocessors."""
    lines = ['modalities=dict(']
    for name, row in rows.items():
        mean, std = row['mean'], row['std']
        if row['grey']:
            values = f'mean={mean[0]:.3f}, std={max(std[0], 1e-3):.3f}'
            values += f', channels={row["channels"]}'
        else:  # the preprocessor converts to RGB first
            mean, std = (', '.join(f'{v:.3f}' for v in k[::-1]) for k in (mean, std))
            values = f'mean=[{mean}], std=[{std}], bgr_to_rgb=True'
        lines.append(f'    {name}=dict({values}),')
    return '\n'.join([*lines, ')'])


def markdown(report: dict) -> str:
    """Format the report as Markdown.

    Args:
        report (dict): Report, as `dataset_report.py` writes it to JSON.

    Returns:
        str: Markdown text.
    """
    rows = report['modalities']
    after = ', '.join(report['measured_after']) or 'reading the files'
    part = f', split {report["split"]}' if report['split'] else ''
    lines = [
        f'# {" ".join(report["source"])}{part}',
        '',
        f'{report["samples"]} of {report["of"]} samples measured, after {after}; '
        f'{report["complete"]} with all of {", ".join(rows)}; '
        f'{report["unreadable"]} unreadable.',
        '',
        '| modality | images | absent | size | type | bits | mean, BGR | std, BGR '
        '| 1 / 50 / 99 % | lowest, highest | at 0, at top |',
        '|' + '---|' * 11,
        *(_intensity_line(name, row) for name, row in rows.items()),
        '',
        'Energy by spatial frequency (low: periods over 16 px, mid: 16 to 4 px, high: '
        'under 4 px), without the mean of each image:',
        '',
        '| modality | low | mid | high | images without structure |',
        '|' + '---|' * 5,
    ]
    for name, row in rows.items():
        shares = [
            f'{row["energy"].get(band, 0):.1%}' for band in ('low', 'mid', 'high')
        ]
        lines.append(f'| {name} | {" | ".join(shares)} | {row["constant"]} |')
    for names, bands in report['correlation'].items():
        text = ', '.join(
            f'{band} {value["mean"]:+.2f} ({value["size"]:.2f})'
            for band, value in bands.items()
        )
        lines += ['', f'Correlation of {names} per pair, mean (mean size): {text}.']
    if light := report['brightness']:
        lines += [
            '',
            f'Brightness of {light["modality"]}: {light["day"]} day, {light["night"]} '
            f'night (mean gray value below {light["night_below"]:g}).',
        ]
    lines += ['', *_label_lines(report['labels'])]
    lines += ['', 'For the paired preprocessor:', '', '```python', snippet(rows), '```']
    return '\n'.join(lines) + '\n'


def _intensity_line(name: str, row: dict) -> str:
    """One row of the table of intensities."""
    size = few((f'{size} ({n})' for size, n in row['sizes'].items()), 3)
    mean, std = (' '.join(f'{v:.1f}' for v in row[key]) for key in ('mean', 'std'))
    cells = [name, row['images'], row['absent'], size, row['type'], row['bits'] or '-']
    cells += [mean, std]
    cells.append(' / '.join(f'{v:g}' for v in row['percentiles'] or ()) or '-')
    cells.append(f'{row["low"]:g}, {row["high"]:g}')
    cells.append(', '.join(f'{v:.2%}' for v in row['saturated'] or ()) or '-')
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def _label_lines(labels: dict | None) -> list[str]:
    """Section of the report on the labels."""
    if not labels:
        return ['No labels.']
    lines = [f'| class | {labels["unit"]} |', '|---|---|']
    for name, count in labels['classes'].items():
        lines.append(
            f'| {name} | {count if isinstance(count, int) else f"{count:.2%}"} |'
        )
    if 'sizes' in labels:
        sizes = ', '.join(f'{name} {n}' for name, n in labels['sizes'].items())
        sides = ', '.join(f'{q} %: {side:.0f}' for q, side in labels['side'].items())
        per = labels['per_image']
        lines += [
            '',
            f'{labels["boxes"]} boxes (and {labels["ignored"]} ignored ones): {sizes} '
            '(thresholds 32^2 and 96^2 px). Square root of the area in px: '
            f'{sides or "-"}. Boxes per image: mean {per["mean"]:.2f}, maximum '
            f'{per["highest"]}, {per["without"]} images without boxes.',
        ]
    return lines
