File.open("flood", "w") do |file|
  loop { file.write("x" * 100_000) }
end
