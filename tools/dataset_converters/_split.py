"""Conversion of a split of a detection dataset to COCO."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from mmir.data.check import ELSEWHERE, Problem, Report, examine_boxes
from mmir.data.coco import count_boxes, open_images, plain_coco, stored_names
from mmir.data.images import ImageReadError, read_image
from mmir.data.inside import outside
from mmir.data.layouts.det import DetLayout, plain_name
from mmir.data.readers import READERS, Labeled, Size
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

CROPPED = 'cropped'
"""Folder of the cropped images, relative to the root."""

UNKNOWN = 'unknown class'


@dataclass
class Record:
    """An image or a pair.

    Attributes:
        key (str): Name in messages.
        files (dict[str, str]): Image of each modality, relative to the root.
        label (str): Label file, '' if `objects` are given.
        size (tuple | None): (width, height), if the label gives it.
        objects (list[Labeled]): The labels.
    """

    key: str
    files: dict[str, str]
    label: str = ''
    size: Size | None = None
    objects: list[Labeled] = field(default_factory=list)


@dataclass
class Split:
    """A split being converted to a COCO file.

    Attributes:
        layout (DetLayout): The dataset.
        root (Path): Root of the dataset.
        labels (str): Modality whose labels are read.
        records (list[Record]): The usable pairs.
        opened (dict): Name and size of every image opened so far -> its problem, None
            if it is good; shared by the label files of a split.
        problems (list[Problem]): Problems that make pairs or labels unusable.
        tally (Counter[str]): Counts of what was left out or changed by rule.
    """

    layout: DetLayout
    root: Path
    labels: str
    records: list[Record]
    opened: dict[tuple[str, Size], Problem | None]
    problems: list[Problem] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)

    def require_files(self) -> None:
        """Keep the pairs whose files all exist, each only once."""
        times = Counter(record.key for record in self.records)
        self.problems += [
            Problem('listed twice', key, f'{n} times')
            for key, n in times.items()
            if n > 1
        ]
        self.records = list({record.key: record for record in self.records}.values())
        names = [name for r in self.records for name in (*r.files.values(), r.label)]
        odd = {*outside(names, self.root)}
        self.problems += [
            Problem(ELSEWHERE, name, f'not below {self.root}') for name in sorted(odd)
        ]
        self.records = [
            record
            for record in self.records
            if not odd & {*record.files.values(), record.label}
        ]
        names = [name for name in names if name not in odd]
        found = stored_names(self.root, filter(None, names)) | {'': ['']}
        complete = []
        for record in self.records:
            wanted = {f'{k} image': v for k, v in record.files.items()}
            wanted['label file'] = record.label
            faults = [
                Problem(f'{what} exists more than once', name, few(found[name]))
                if found[name]
                else Problem(f'{what} is missing', name)
                for what, name in wanted.items()
                if len(found[name]) != 1
            ]
            self.problems += faults
            if not faults:
                record.files = {k: found[v][0] for k, v in record.files.items()}
                record.label = found[record.label][0]
                complete.append(record)
        self.records = complete

    def read_labels(self) -> None:
        """Read the label files; keep the pairs whose label file is readable."""
        readable = []
        for record in tqdm(self.records, 'labels', leave=False):
            try:
                self._read(record)
            except (AnnotationError, ImageReadError) as error:
                self.problems.append(Problem('cannot be read', record.key, str(error)))
            else:
                readable.append(record)
        self.records = readable

    def _read(self, record: Record) -> None:
        """Read labels and size of one pair."""
        if record.label:
            read = READERS[PurePosixPath(record.label).suffix.lower()]
            record.size, record.objects = read(self.root / record.label)
        if record.size is None:
            path = self.root / next(iter(record.files.values()))
            record.size = read_image(str(path)).shape[1::-1]

    def open_images(self) -> None:
        """Decode every image; keep the pairs without problems."""
        files = [(n, r.size) for r in self.records for n in r.files.values()]
        todo = {file for file in files if file not in self.opened}
        entries = [
            {'file_name': name, 'width': width, 'height': height}
            for name, (width, height) in sorted(todo)
        ]
        faults = {p.name: p for p in open_images(entries, self.root, progress=True)}
        self.opened.update({file: faults.get(file[0]) for file in todo})
        bad = [self.opened[file] for file in files if self.opened[file]]
        self.problems += bad
        names = {problem.name for problem in bad}
        self.records = [
            record for record in self.records if not names & {*record.files.values()}
        ]

    def to_coco(self, first_id: int) -> dict:
        """Assemble the COCO dictionary.

        Args:
            first_id (int): Id of the first image.

        Returns:
            dict: COCO dictionary; boxes are clipped to the image, unusable ones left
            out.
        """
        images, rows, border = [], [], self.layout.border
        for image_id, record in enumerate(self.records, first_id):
            width, height = (side - 2 * border for side in record.size)
            images.append(
                {
                    'id': image_id,
                    'file_name': '',
                    'width': width,
                    'height': height,
                    **{k: self.converted(v) for k, v in record.files.items()},
                }
            )
            rows += [
                (image_id, label, box, crowd)
                for label, box, crowd in self._settle(record)
            ]
        for image in images:
            image['file_name'] = image[self.labels]
        return plain_coco(images, self._usable(images, rows), self.layout.classes)

    def converted(self, name: str) -> str:
        """Get the name of the image that replaces an original one."""
        return f'{CROPPED}/{name}' if self.layout.border else name

    def _settle(self, record: Record) -> list[tuple[int, list[float], int]]:
        """Map the labels of a pair to our classes: (label, box, crowd flag)."""
        layout, rows = self.layout, []
        known = {plain_name(name): k for k, name in enumerate(layout.classes)}
        for thing in record.objects:
            name = plain_name(thing.name)
            right = layout.aliases.get(name, name)
            if thing.box is None:
                self.tally['labels without a box, left out'] += 1
                continue
            left, top, width, height = thing.box
            box = [left - layout.border, top - layout.border, width, height]
            if right in known:
                rows.append((known[right], box, int(thing.crowd)))
                if right != name:
                    self.tally[f'boxes of {thing.name!r}, read as {right!r}'] += 1
            elif name in layout.ignored:
                # It may be any class, so detections of none of them are errors here.
                rows += [(k, box, 1) for k in known.values()]
                self.tally[f'boxes of {thing.name!r}, ignored in evaluation'] += 1
            elif name in layout.dropped:
                self.tally[f'boxes of {thing.name!r}, left out'] += 1
            else:
                self.problems.append(Problem(UNKNOWN, record.key, repr(thing.name)))
        return rows

    def _usable(self, images: list[dict], rows: list[tuple]) -> list[tuple]:
        """Clip boxes; leave out, and count, those outside or without size."""
        sizes = {image['id']: (image['width'], image['height']) for image in images}
        where = np.array([sizes[row[0]] for row in rows], float).reshape(-1, 2)
        boxes = examine_boxes([row[2] for row in rows], where)
        names = {i['id']: r.key for i, r in zip(images, self.records, strict=True)}
        for mask, what in (
            (boxes.degenerate, 'boxes without a positive finite size, left out'),
            (boxes.outside, 'boxes outside the image, left out'),
            (boxes.partly, 'boxes that extend past the edge, clipped'),
        ):
            if mask.any():
                seen = dict.fromkeys(names[rows[k][0]] for k in np.flatnonzero(mask))
                self.tally[f'{what} ({few(seen, 3)})'] += int(mask.sum())
        clipped = boxes.clipped.tolist()
        return [
            (*rows[k][:2], clipped[k], rows[k][3]) for k in np.flatnonzero(~boxes.bad)
        ]

    def report(self, source: str, coco: dict, official: int) -> Report:
        """Report the findings.

        Args:
            source (str): Name of the split.
            coco (dict): Its COCO dictionary.
            official (int): Published number of images, 0 if unknown.

        Returns:
            Report: All problems, and what was left out.
        """
        report = Report(source, len(coco['images']), dict(count_boxes(coco)))
        if official and official != report.samples:
            report.notes.append(
                f'{report.samples} usable images, {official} were published'
            )
        report.notes += [f'{number} {what}' for what, number in self.tally.items()]
        report.problems += self.problems
        return report
