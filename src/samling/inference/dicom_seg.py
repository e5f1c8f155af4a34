"""DICOM segmentations: class numbers as segments that refer to the images they were drawn on."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, UltrasoundImageStorage, generate_uid

from samling.atomic import atomic_path
from samling.errors import InputError
from samling.inference.segment_codes import Code, code_of

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
SERIES_NUMBER = 9001


@dataclass(frozen=True)
class Author:
    """Who drew the segments: a model, by itself or from a user's prompts."""

    model: str
    version: str
    prompted: bool


def write_seg(
    path: str | Path,
    labels: NDArray[np.uint8],
    headers: Sequence[Dataset],
    classes: Sequence[str],
    author: Author,
    spacing_mm: tuple[float, float] | None = None,
) -> None:
    """Write class numbers as a DICOM SEG, one binary segment per class.

    Args:
        path: the file to write.
        labels: (D, H, W) in the order of `headers`, or (T, H, W) for one multi-frame image.
        headers: of the source images, without pixels: D of them, or one with T frames.
        classes: names of classes 1, 2, ...
        author: recorded with every segment.
        spacing_mm: (row, column) pixel size where the images have no position in the patient, as in
            ultrasound; None: not known.

    Raises:
        InputError: the source lacks what a reference needs, or the file cannot be written.
    """
    where = Path(path)
    frames = int(headers[0].get("NumberOfFrames") or 1)
    if labels.shape != (max(frames, len(headers)), *_size(headers[0])):
        raise ValueError(f"labels of shape {labels.shape} do not fit {len(headers)} images")
    sources = [_complete(header, where) for header in headers]
    if frames == 1:
        seg = _segmentation(labels, sources, classes, author, spacing_mm)
    else:
        single = _as_single_frame(sources[0])
        seg = _segmentation(labels[:1], [single], classes, author, spacing_mm)
        _spread_over_frames(seg, labels, sources[0], len(classes))
    if "ImagePositionPatient" not in sources[0]:
        seg.PatientOrientation = sources[0].get("PatientOrientation", "")
    seg.SeriesDate, seg.SeriesTime, seg.ContentCreatorName = seg.ContentDate, seg.ContentTime, ""
    try:
        with atomic_path(where) as temporary:
            seg.save_as(temporary)
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(where, problem, "free space or name another folder") from error


def _size(header: Dataset) -> tuple[int, int]:
    return int(header.Rows), int(header.Columns)


def _complete(header: Dataset, where: Path) -> Dataset:
    """The header with everything a segmentation repeats; empty where the source says nothing."""
    missing = [name for name in _NEEDED if not header.get(name)]
    if missing:
        problem = f"cannot refer to its source, which has no {missing[0]}"
        raise InputError(where, problem, "ask for nifti or png instead")
    full = header[:]  # a table of its own over shared elements: `add_new` replaces, never changes
    for name in _MAY_BE_EMPTY:
        if name not in full:
            setattr(full, name, "")
    if not full.get("SpecificCharacterSet", "ISO_IR 100"):
        del full.SpecificCharacterSet  # empty: as good as absent, and not allowed
    if "ImagePositionPatient" in full and not full.get("FrameOfReferenceUID"):
        # The same one for every slice and every run: derived from the series.
        frame = generate_uid(entropy_srcs=["frame", str(full.SeriesInstanceUID)])
        full.add_new("FrameOfReferenceUID", "UI", frame)
    return full


def _segmentation(
    labels: NDArray[np.uint8],
    sources: Sequence[Dataset],
    classes: Sequence[str],
    author: Author,
    spacing_mm: tuple[float, float] | None,
) -> "Segmentation":
    import highdicom

    positioned = "ImagePositionPatient" in sources[0]
    measures = None
    if spacing_mm is not None and not positioned:
        # Readers ask for a thickness, which ultrasound does not have: a pixel's height stands for it.
        measures = highdicom.PixelMeasuresSequence(spacing_mm, slice_thickness=spacing_mm[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of patients that are written oddly; empty segments
        return highdicom.seg.Segmentation(
            source_images=list(sources),
            pixel_array=labels,
            segmentation_type="BINARY",
            segment_descriptions=[
                _description(number, name, author) for number, name in enumerate(classes, start=1)
            ],
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="samling",
            manufacturer_model_name=author.model,
            software_versions=author.version,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description=f"{', '.join(classes)} by {author.model}"[:64],
            series_description="Segmentation (research, not for diagnosis)",
            pixel_measures=measures,
            omit_empty_frames=bool(labels.any()),
        )


def _description(number: int, name: str, author: Author) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    code = code_of(name)
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=_concept(code.category),
        segmented_property_type=_concept(code.type),
        anatomic_regions=[_concept(code.organ)] if code.organ else None,
        algorithm_type="SEMIAUTOMATIC" if author.prompted else "AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=author.model[:64],
            version=author.version,
            family=codes.DCM.ArtificialIntelligence,
        ),
        tracking_uid=generate_uid(),
        tracking_id=f"{name[:50]} {number}",
    )


def _concept(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code.value, "SCT", code.meaning)


def _as_single_frame(header: Dataset) -> Dataset:
    """A cine's header as that of one frame: highdicom writes no SEG of a cine without positions."""
    single = header[:]
    single.add_new("SOPClassUID", "UI", UltrasoundImageStorage)
    if "NumberOfFrames" in single:
        del single.NumberOfFrames
    return single


def _spread_over_frames(
    seg: Dataset, labels: NDArray[np.uint8], source: Dataset, segments: int
) -> None:
    """Turn a segmentation of one frame into one of every frame of the cine that shows anything."""
    kept = [
        (segment, frame)
        for segment in range(1, segments + 1)
        for frame in range(len(labels))
        if not labels.any() or (labels[frame] == segment).any()
    ]
    _name_source(seg, source.SOPClassUID)
    template = seg.PerFrameFunctionalGroupsSequence[0]
    _share_nothing_per_segment(seg)
    seg.PerFrameFunctionalGroupsSequence = DicomSequence(
        [_frame_groups(template, segment, frame) for segment, frame in kept]
    )
    position = Dataset()
    position.DimensionOrganizationUID = seg.DimensionIndexSequence[0].DimensionOrganizationUID
    position.DimensionIndexPointer = 0x00209057  # InStackPositionNumber
    position.FunctionalGroupPointer = 0x00209111  # FrameContentSequence
    position.DimensionDescriptionLabel = "InStackPositionNumber"
    seg.DimensionIndexSequence.append(position)
    seg.NumberOfFrames = len(kept)
    bits = np.stack([labels[frame] == segment for segment, frame in kept]).astype(np.uint8)
    seg.PixelData = pack_bits(bits.ravel(), pad=True)


def _name_source(seg: Dataset, sop_class: UID) -> None:
    for element in seg.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            element.value = sop_class


def _share_nothing_per_segment(seg: Dataset) -> None:
    shared = seg.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        del shared.SegmentIdentificationSequence


def _frame_groups(template: Dataset, segment: int, frame: int) -> Dataset:
    groups = copy.deepcopy(template)
    groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = frame + 1
    content = groups.FrameContentSequence[0]
    content.DimensionIndexValues = [segment, frame + 1]
    content.StackID = "1"
    content.InStackPositionNumber = frame + 1
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment
    groups.SegmentIdentificationSequence = DicomSequence([identification])
    return groups
