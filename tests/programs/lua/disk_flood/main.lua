local file = assert(io.open("flood", "w"))
while true do
  assert(file:write(string.rep("x", 100000)))
end
