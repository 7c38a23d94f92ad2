my @hoard;
for (my $i = 0;; $i++) {
    push @hoard, "$i" . "x" x 1_000_000;
}
