"""Does an implant earn its gain, beside everything simpler, and does the tool say so?"""
