import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import server.ids


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Artifact",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("size", models.PositiveBigIntegerField(help_text="Bytes of the packed file.")),
                ("sha256", models.CharField(help_text="Digest of the packed file.", max_length=64)),
                ("encoding", models.CharField(help_text="zstd or gzip.", max_length=8)),
                ("dtype", models.CharField(max_length=16)),
                ("shape", models.JSONField(help_text="[i, j, k], RAS+.")),
                ("affine", models.JSONField(help_text="4x4, voxel index to world mm, RAS+.")),
                ("path", models.CharField(help_text="Relative to DATA_DIR.", max_length=255)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Series",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("uid", models.CharField(help_text="SeriesInstanceUID; made up for NIfTI files.", max_length=64)),
                (
                    "part",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="A series of several orientations is several volumes."
                    ),
                ),
                ("revision", models.PositiveIntegerField(default=1)),
                ("is_current", models.BooleanField(default=True)),
                ("number", models.IntegerField(blank=True, null=True)),
                ("description", models.CharField(blank=True, max_length=1024)),
                ("modality", models.CharField(default="MR", max_length=16)),
                (
                    "sequence",
                    models.CharField(
                        blank=True, help_text="T1, T1CE, T2, FLAIR; empty: not sure.", max_length=5, null=True
                    ),
                ),
                ("sequence_confidence", models.FloatField(default=0.0)),
                ("shape", models.JSONField(help_text="[i, j, k] of the stored grid.")),
                ("spacing_mm", models.JSONField(help_text="[i, j, k] of the stored grid.")),
                ("affine", models.JSONField(help_text="4x4, index on the stored grid to world mm, RAS+.")),
                ("frame_of_reference_uid", models.CharField(blank=True, max_length=64)),
                (
                    "content_sha256",
                    models.CharField(
                        help_text="Digest of voxels and geometry, whatever the file names.", max_length=64
                    ),
                ),
                ("source", models.CharField(choices=[("dicom", "DICOM"), ("nifti", "NIfTI")], max_length=8)),
                (
                    "folder",
                    models.CharField(
                        help_text="Relative to DATA_DIR: volume.nii.gz and the original files.", max_length=255
                    ),
                ),
                ("volume_sha256", models.CharField(max_length=64)),
                ("volume_size", models.PositiveBigIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "artifact",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="series", to="imaging.artifact"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "series",
                "ordering": ("number", "created_at", "id"),
            },
        ),
        migrations.CreateModel(
            name="Mask",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("job_id", models.CharField(max_length=26, unique=True)),
                ("nii_path", models.CharField(help_text="Relative to DATA_DIR.", max_length=255)),
                (
                    "seg_path",
                    models.CharField(blank=True, help_text="Empty: no SEG, see the report.", max_length=255, null=True),
                ),
                ("report_path", models.CharField(max_length=255)),
                ("sha256", models.CharField(help_text="Of mask.nii.gz.", max_length=64)),
                ("size", models.PositiveBigIntegerField(help_text="Of mask.nii.gz, bytes.")),
                ("volumes_ml", models.JSONField(help_text="WT, TC, ET.")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "series",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="masks", to="imaging.series"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Study",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("uid", models.CharField(help_text="StudyInstanceUID; made up for NIfTI files.", max_length=64)),
                ("patient_name", models.CharField(blank=True, max_length=324)),
                ("patient_id", models.CharField(blank=True, max_length=64)),
                ("study_date", models.DateField(blank=True, null=True)),
                ("description", models.CharField(blank=True, max_length=1024)),
                ("source", models.CharField(choices=[("dicom", "DICOM"), ("nifti", "NIfTI")], max_length=8)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True, help_text="Whose members may see it.", related_name="studies", to="auth.group"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="studies", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "studies",
                "ordering": ("-created_at", "-id"),
            },
        ),
        migrations.AddField(
            model_name="series",
            name="study",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="series", to="imaging.study"
            ),
        ),
        migrations.CreateModel(
            name="UploadBatch",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("uuid", models.CharField(help_text="Chosen by the uploader.", max_length=64)),
                ("count", models.PositiveIntegerField()),
                ("is_replacement", models.BooleanField(default=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("receiving", "Receiving"),
                            ("ingesting", "Ingesting"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                        ],
                        default="receiving",
                        max_length=10,
                    ),
                ),
                (
                    "claimed_at",
                    models.DateTimeField(blank=True, help_text="When somebody began to read it in.", null=True),
                ),
                ("studies", models.JSONField(default=list)),
                ("refused", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="upload_batches",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "upload batches",
            },
        ),
        migrations.CreateModel(
            name="Upload",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=server.ids.new_id, editable=False, max_length=26, primary_key=True, serialize=False
                    ),
                ),
                ("length", models.PositiveBigIntegerField()),
                ("offset", models.PositiveBigIntegerField(default=0)),
                ("filename", models.CharField(blank=True, max_length=255)),
                ("metadata", models.JSONField(default=dict)),
                ("job_id", models.CharField(blank=True, db_index=True, max_length=26)),
                ("fence", models.PositiveBigIntegerField(blank=True, null=True)),
                ("role", models.CharField(blank=True, max_length=32)),
                (
                    "sha256",
                    models.CharField(blank=True, help_text="Declared digest of the whole, if any.", max_length=64),
                ),
                (
                    "is_complete",
                    models.BooleanField(default=False, help_text="Length and digest match, and it is safely on disk."),
                ),
                ("path", models.CharField(help_text="Relative to DATA_DIR.", max_length=255)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploads",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "batch",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploads",
                        to="imaging.uploadbatch",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="study",
            constraint=models.UniqueConstraint(fields=("owner", "uid"), name="study_once_per_owner"),
        ),
        migrations.AddIndex(
            model_name="series",
            index=models.Index(fields=["uid"], name="series_by_uid"),
        ),
        migrations.AddConstraint(
            model_name="series",
            constraint=models.UniqueConstraint(
                fields=("study", "uid", "part", "revision"), name="series_revision_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="series",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_current", True)), fields=("study", "uid", "part"), name="series_current_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="uploadbatch",
            constraint=models.UniqueConstraint(fields=("owner", "uuid"), name="batch_once_per_owner"),
        ),
        migrations.AddConstraint(
            model_name="upload",
            constraint=models.CheckConstraint(
                condition=models.Q(("offset__lte", models.F("length"))), name="upload_within_length"
            ),
        ),
    ]
