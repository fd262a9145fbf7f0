"""What an analysis leaves behind: NIfTI masks, DICOM SEG objects, reports."""
