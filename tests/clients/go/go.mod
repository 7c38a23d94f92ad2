module story

go 1.23

require braindrill v0.0.0

replace braindrill => ../client
