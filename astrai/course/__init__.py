"""What makes the notebooks a course: for now the doctor, which says what this machine has."""
