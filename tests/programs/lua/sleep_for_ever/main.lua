while true do
  os.execute("sleep 3600")
end
