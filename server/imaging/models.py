"""Studies and series as they lie on disk, what workers fetch of them, and the masks that came back."""

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from server.ids import new_id


class Source(models.TextChoices):
    """The file format a study arrived in."""

    DICOM = "dicom", "DICOM"
    NIFTI = "nifti", "NIfTI"


class Study(models.Model):
    """One examination of one patient; the unit of permission.

    A study belongs to the user who brought it in. The same StudyInstanceUID brought in by another user is another
    row, so that nobody learns from an upload what somebody else has stored.
    """

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    uid = models.CharField(max_length=64, help_text="StudyInstanceUID; made up for NIfTI files.")
    patient_name = models.CharField(max_length=324, blank=True)
    patient_id = models.CharField(max_length=64, blank=True)
    patient_birth_date = models.DateField(null=True, blank=True)
    study_date = models.DateField(null=True, blank=True)
    accession_number = models.CharField(max_length=64, blank=True)
    description = models.CharField(max_length=1024, blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="studies")
    groups = models.ManyToManyField(Group, blank=True, related_name="studies", help_text="Whose members may see it.")
    source = models.CharField(max_length=8, choices=Source)
    set_aside = models.JSONField(
        default=list, blank=True, help_text="What came along and is no scan to be analysed: filename, code, detail."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "studies"
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=("owner", "uid"), name="study_once_per_owner"),)

    def __str__(self) -> str:
        return self.id


class Artifact(models.Model):
    """One volume as a worker fetches it: packed voxels in RAS+ order, with nothing of the patient beside them."""

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    size = models.PositiveBigIntegerField(help_text="Bytes of the packed file.")
    sha256 = models.CharField(max_length=64, help_text="Digest of the packed file.")
    encoding = models.CharField(max_length=8, help_text="zstd or gzip.")
    dtype = models.CharField(max_length=16)
    shape = models.JSONField(help_text="[i, j, k], RAS+.")
    affine = models.JSONField(help_text="4x4, voxel index to world mm, RAS+.")
    path = models.CharField(max_length=255, help_text="On the shelf.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id


class Series(models.Model):
    """One volume of a study. A series whose content was replaced stays, not current, for the masks that refer to it."""

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="series")
    uid = models.CharField(max_length=64, help_text="SeriesInstanceUID; made up for NIfTI files.")
    part = models.PositiveSmallIntegerField(default=0, help_text="A series of several orientations is several volumes.")
    revision = models.PositiveIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    number = models.IntegerField(null=True, blank=True)
    description = models.CharField(max_length=1024, blank=True)
    modality = models.CharField(max_length=16, default="MR")
    sequence = models.CharField(max_length=5, null=True, blank=True, help_text="T1, T1CE, T2, FLAIR; empty: not sure.")
    sequence_confidence = models.FloatField(default=0.0)
    sequence_source = models.CharField(max_length=8, blank=True, help_text="Who said so: header, voxels, name, person.")
    sequence_reason = models.CharField(max_length=400, blank=True, help_text="A sentence for the doctor.")
    scan = models.JSONField(default=dict, blank=True, help_text="How it was scanned, as far as the header says.")
    fingerprint = models.JSONField(default=dict, blank=True, help_text="What the voxels say of the contrast.")
    shape = models.JSONField(help_text="[i, j, k] of the stored grid.")
    spacing_mm = models.JSONField(help_text="[i, j, k] of the stored grid.")
    affine = models.JSONField(help_text="4x4, index on the stored grid to world mm, RAS+.")
    frame_of_reference_uid = models.CharField(max_length=64, blank=True)
    content_sha256 = models.CharField(
        max_length=64, help_text="Digest of voxels and geometry, whatever the file names."
    )
    source = models.CharField(max_length=8, choices=Source)
    folder = models.CharField(max_length=255, help_text="On the shelf: volume.nii.gz, artifact, originals.")
    volume_sha256 = models.CharField(max_length=64)
    volume_size = models.PositiveBigIntegerField()
    artifact = models.OneToOneField(Artifact, on_delete=models.PROTECT, related_name="series")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "series"
        ordering = ("number", "created_at", "id")
        constraints = (
            models.UniqueConstraint(fields=("study", "uid", "part", "revision"), name="series_revision_once"),
            models.UniqueConstraint(
                fields=("study", "uid", "part"), condition=Q(is_current=True), name="series_current_once"
            ),
        )
        indexes = (models.Index(fields=("uid",), name="series_by_uid"),)

    def __str__(self) -> str:
        return self.id


class UploadBatch(models.Model):
    """Files uploaded one by one that belong together; read in when the last of them is complete."""

    class State(models.TextChoices):
        """Where a batch stands."""

        RECEIVING = "receiving"
        INGESTING = "ingesting"
        DONE = "done"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    uuid = models.CharField(max_length=64, help_text="Chosen by the uploader.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="upload_batches")
    count = models.PositiveIntegerField()
    is_replacement = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.RECEIVING)
    claimed_at = models.DateTimeField(null=True, blank=True, help_text="When somebody began to read it in.")
    studies = models.JSONField(default=list)
    refused = models.JSONField(default=list)
    set_aside = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "upload batches"
        constraints = (models.UniqueConstraint(fields=("owner", "uuid"), name="batch_once_per_owner"),)

    def __str__(self) -> str:
        return self.id


class Upload(models.Model):
    """A file on its way in, in chunks: a user's study file, or a worker's mask for one job and fence."""

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    length = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    filename = models.CharField(max_length=255, blank=True)
    metadata = models.JSONField(default=dict)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="uploads"
    )
    batch = models.ForeignKey(UploadBatch, on_delete=models.CASCADE, null=True, blank=True, related_name="uploads")
    job_id = models.CharField(max_length=26, blank=True, db_index=True)
    fence = models.PositiveBigIntegerField(null=True, blank=True)
    role = models.CharField(max_length=32, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Declared digest of the whole, if any.")
    is_complete = models.BooleanField(default=False, help_text="Length and digest match, and it is safely on disk.")
    path = models.CharField(max_length=255, help_text="Below DATA_DIR, or in the bucket.")
    parts = models.JSONField(default=list, help_text="In a bucket: the names of the chunks that count, in order.")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(offset__lte=models.F("length")), name="upload_within_length"),
        )

    def __str__(self) -> str:
        return self.id


class Mask(models.Model):
    """What a job found: a label mask on the stored grid of its reference series, proven before it was written here."""

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    job_id = models.CharField(max_length=26, unique=True)
    series = models.ForeignKey(Series, on_delete=models.PROTECT, related_name="masks")
    nii_path = models.CharField(max_length=255, help_text="On the shelf.")
    seg_path = models.CharField(max_length=255, null=True, blank=True, help_text="Empty: no SEG, see the report.")
    seg_sha256 = models.CharField(max_length=64, blank=True, help_text="Of mask.dcm.")
    report_path = models.CharField(max_length=255)
    report_sha256 = models.CharField(max_length=64, blank=True, help_text="Of report.json.")
    sha256 = models.CharField(max_length=64, help_text="Of mask.nii.gz.")
    size = models.PositiveBigIntegerField(help_text="Of mask.nii.gz, bytes.")
    volumes_ml = models.JSONField(help_text="WT, TC, ET.")
    dicom_objects = models.JSONField(
        default=list, blank=True, help_text="The DICOM objects in its folder: kind, name, sha256, size and UIDs."
    )
    pdf_sha256 = models.CharField(max_length=64, blank=True, help_text="Of summary.pdf.")
    change = models.JSONField(null=True, blank=True, help_text="Since an earlier study: as in the report.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id
