use autodie;

open(my $file, ">", "flood");
for (;;) {
    print {$file} "x" x 100_000 or die "cannot write: $!\n";
}
