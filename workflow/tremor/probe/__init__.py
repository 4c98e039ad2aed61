"""The probe: one base point, many nudges; what does the model answer, bit for bit?"""
