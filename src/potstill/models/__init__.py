"""What is computed: teachers, students and their heads."""
