hoard = []
loop { hoard << "x" * 1_000_000 }
