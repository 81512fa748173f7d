"""What the questions are made of: general knowledge that a small model has a chance to know."""

CAPITALS = """
Argentina: Buenos Aires; Australia: Canberra; Austria: Vienna; Belgium: Brussels; Brazil: Brasilia;
Bulgaria: Sofia; Canada: Ottawa; Chile: Santiago; China: Beijing; Colombia: Bogota; Cuba: Havana; Denmark:
Copenhagen; Egypt: Cairo; Ethiopia: Addis Ababa; Finland: Helsinki; France: Paris; Germany: Berlin; Greece:
Athens; Hungary: Budapest; Iceland: Reykjavik; India: New Delhi; Indonesia: Jakarta; Iran: Tehran; Iraq:
Baghdad; Ireland: Dublin; Italy: Rome; Japan: Tokyo; Kenya: Nairobi; Lebanon: Beirut; Malaysia: Kuala
Lumpur; Mexico: Mexico City; Mongolia: Ulaanbaatar; Nepal: Kathmandu; Netherlands: Amsterdam; Norway: Oslo;
Pakistan: Islamabad; Peru: Lima; Philippines: Manila; Poland: Warsaw; Portugal: Lisbon; Romania: Bucharest;
Russia: Moscow; Spain: Madrid; Sweden: Stockholm; Switzerland: Bern; Syria: Damascus; Thailand: Bangkok;
Turkey: Ankara; Ukraine: Kyiv; Venezuela: Caracas; Vietnam: Hanoi; Zimbabwe: Harare
"""
SYMBOLS = """
hydrogen: H; helium: He; lithium: Li; carbon: C; nitrogen: N; oxygen: O; neon: Ne; sodium: Na; magnesium:
Mg; aluminium: Al; silicon: Si; sulfur: S; chlorine: Cl; argon: Ar; potassium: K; calcium: Ca; iron: Fe;
copper: Cu; zinc: Zn; silver: Ag; tin: Sn; iodine: I; gold: Au; mercury: Hg; lead: Pb; uranium: U
"""
OPPOSITES = """
hot: cold; big: small; fast: slow; up: down; light: dark; open: closed; early: late; young: old; rich: poor;
strong: weak; happy: sad; wet: dry; hard: soft; full: empty; high: low; inside: outside; left: right; day:
night; first: last; loud: quiet; clean: dirty; thick: thin; true: false; win: lose; begin: end; love: hate;
north: south; east: west
"""
YOUNG = """
dog: puppy; cat: kitten; cow: calf; horse: foal; sheep: lamb; duck: duckling; goose: gosling; bear: cub;
deer: fawn; frog: tadpole; kangaroo: joey; pig: piglet; hen: chick; goat: kid; swan: cygnet
"""
COLOURS = """
grass: green; snow: white; coal: black; blood: red; the sky on a clear day: blue; a banana: yellow; a ripe
tomato: red; milk: white; a lemon: yellow; an emerald: green; charcoal: black; a ruby: red; a sapphire:
blue; chocolate: brown
"""
LANGUAGES = """
Brazil: Portuguese; Mexico: Spanish; Austria: German; Egypt: Arabic; Japan: Japanese; China: Chinese;
France: French; Italy: Italian; Greece: Greek; Russia: Russian; Poland: Polish; Sweden: Swedish; Norway:
Norwegian; Turkey: Turkish; Thailand: Thai; Argentina: Spanish; Finland: Finnish; Denmark: Danish; Hungary:
Hungarian; Australia: English
"""
TOOLS = """
cut paper: scissors; drive in a nail: a hammer; tell the time: a clock; measure temperature: a thermometer;
look at the stars: a telescope; sweep the floor: a broom; open a lock: a key; write on paper: a pen; cook an
egg: a pan; dig a hole: a shovel; take a picture: a camera; see small things: a microscope; keep dry in the
rain: an umbrella; weigh flour: a scale
"""
ENDINGS = """
Actions speak louder than|words
A bird in the hand is worth two in the|bush
Better late than|never
Don't judge a book by its|cover
Every cloud has a silver|lining
Practice makes|perfect
Rome was not built in a|day
The early bird catches the|worm
Two wrongs don't make a|right
When in Rome, do as the Romans|do
The pen is mightier than the|sword
Where there is smoke, there is|fire
An apple a day keeps the doctor|away
You can't teach an old dog new|tricks
Beauty is in the eye of the|beholder
All that glitters is not|gold
Curiosity killed the|cat
Necessity is the mother of|invention
No news is good|news
There is no place like|home
Once upon a|time
They lived happily ever|after
The sun rises in the|east
Water freezes at zero degrees|Celsius
A triangle has three|sides
There are seven days in a|week
There are sixty minutes in an|hour
The Earth revolves around the|Sun
Bees make|honey
A year has twelve|months
Shakespeare wrote Romeo and|Juliet
Ladies and|gentlemen
The opposite of black is|white
He opened the door with his|key
She drank a cup of hot|coffee
The dog wagged its|tail
The baby began to|cry
Please turn off the lights before you go to|bed
He put on his shoes and tied his|laces
In winter the lake is covered with|ice
The teacher wrote the answer on the|board
She blew out the candles on her birthday|cake
The farmer milked the|cows
We watched the ships sail out to|sea
The rain fell all night, and in the morning the streets were|wet
He was so tired that he fell|asleep
The bank was closed, so she could not withdraw any|money
The pilot landed the|plane
The cat chased the|mouse
Monday, Tuesday, Wednesday,|Thursday
January, February, March,|April
one, two, three, four,|five
two, four, six, eight,|ten
a, b, c, d,|e
spring, summer, autumn,|winter
red, orange, yellow, green,|blue
Mercury, Venus, Earth,|Mars
north, south, east, and|west
breakfast, lunch, and|dinner
do, re, mi,|fa
"""


def pairs(table: str) -> list[tuple[str, str]]:
    """The entries of a table above: what is asked of, and the answer."""
    entries = (entry.split(":") for entry in table.replace("\n", " ").split(";"))
    return [(subject.strip(), answer.strip()) for subject, answer in entries]


def endings() -> list[tuple[str, str]]:
    """Beginnings of sentences and their last words."""
    lines = (line.split("|") for line in ENDINGS.strip().splitlines())
    return [(beginning, ending) for beginning, ending in lines]
