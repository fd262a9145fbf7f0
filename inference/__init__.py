"""The analysis: four MRI sequences in, a tumour mask out. No Django, no network; importing it loads no torch."""
