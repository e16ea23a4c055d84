"""Training batches: procedural and real photographs, labels of a teacher."""
