"""Mathematics: rotary frequencies, spectra, filters, time shifts, operation counts. Arrays in, arrays out."""
