"""What ran when: spans of a run or of a schedule, as a Perfetto file and as a picture."""
