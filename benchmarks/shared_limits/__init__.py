"""Do several processes keep one limit together, whatever happens to them and to what they share?"""
