import iniconfig

config = iniconfig.IniConfig("goals.ini", data="[goals]\nfirst = learn about containers\n")
print("My first goal:", config["goals"]["first"])
