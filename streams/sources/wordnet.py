"""What WordNet ids of published data sets stand for."""

from __future__ import annotations

_IMAGENET_R = """
    01443537 goldfish; 01484850 great white shark; 01494475 hammerhead; 01498041 stingray; 01514859 hen;
    01518878 ostrich; 01531178 goldfinch; 01534433 junco; 01614925 bald eagle; 01616318 vulture; 01630670 newt;
    01632777 axolotl; 01644373 tree frog; 01677366 iguana; 01694178 African chameleon; 01748264 cobra;
    01770393 scorpion; 01774750 tarantula; 01784675 centipede; 01806143 peacock; 01820546 lorikeet;
    01833805 hummingbird; 01843383 toucan; 01847000 duck; 01855672 goose; 01860187 black swan; 01882714 koala;
    01910747 jellyfish; 01944390 snail; 01983481 lobster; 01986214 hermit crab; 02007558 flamingo;
    02009912 American egret; 02051845 pelican; 02056570 king penguin; 02066245 grey whale; 02071294 killer whale;
    02077923 sea lion; 02085620 Chihuahua; 02086240 Shih Tzu; 02088094 Afghan hound; 02088238 basset hound;
    02088364 beagle; 02088466 bloodhound; 02091032 Italian greyhound; 02091134 whippet; 02092339 Weimaraner;
    02094433 Yorkshire terrier; 02096585 Boston terrier; 02097298 Scottish terrier;
    02098286 West Highland white terrier; 02099601 golden retriever; 02099712 Labrador retriever;
    02102318 cocker spaniel; 02106030 collie; 02106166 Border collie; 02106550 Rottweiler;
    02106662 German shepherd dog; 02108089 boxer; 02108915 French bulldog; 02109525 Saint Bernard; 02110185 husky;
    02110341 Dalmatian; 02110958 pug; 02112018 Pomeranian; 02112137 chow chow; 02113023 Pembroke Welsh corgi;
    02113624 toy poodle; 02113799 standard poodle; 02114367 timber wolf; 02117135 hyena; 02119022 red fox;
    02123045 tabby cat; 02128385 leopard; 02128757 snow leopard; 02129165 lion; 02129604 tiger; 02130308 cheetah;
    02134084 polar bear; 02138441 meerkat; 02165456 ladybug; 02190166 fly; 02206856 bee; 02219486 ant;
    02226429 grasshopper; 02233338 cockroach; 02236044 mantis; 02268443 dragonfly; 02279972 monarch butterfly;
    02317335 starfish; 02325366 wood rabbit; 02346627 porcupine; 02356798 fox squirrel; 02363005 beaver;
    02364673 guinea pig; 02391049 zebra; 02395406 pig; 02398521 hippopotamus; 02410509 bison; 02423022 gazelle;
    02437616 llama; 02445715 skunk; 02447366 badger; 02480495 orangutan; 02480855 gorilla; 02481823 chimpanzee;
    02483362 gibbon; 02486410 baboon; 02510455 panda; 02526121 eel; 02607072 clown fish; 02655020 puffer fish;
    02672831 accordion; 02701002 ambulance; 02749479 assault rifle; 02769748 backpack; 02793495 barn;
    02797295 wheelbarrow; 02802426 basketball; 02808440 bathtub; 02814860 lighthouse; 02823750 beer glass;
    02841315 binoculars; 02843684 birdhouse; 02883205 bow tie; 02906734 broom; 02909870 bucket; 02939185 cauldron;
    02948072 candle; 02950826 cannon; 02951358 canoe; 02966193 carousel; 02980441 castle; 02992529 mobile phone;
    03124170 cowboy hat; 03272010 electric guitar; 03345487 fire engine; 03372029 flute; 03424325 gas mask;
    03452741 grand piano; 03467068 guillotine; 03481172 hammer; 03494278 harmonica; 03495258 harp; 03498962 hatchet;
    03594945 jeep; 03602883 joystick; 03630383 lab coat; 03649909 lawn mower; 03676483 lipstick; 03710193 mailbox;
    03773504 missile; 03775071 mitten; 03888257 parachute; 03930630 pickup truck; 03947888 pirate ship;
    04086273 revolver; 04118538 rugby ball; 04133789 sandal; 04141076 saxophone; 04146614 school bus;
    04147183 schooner; 04192698 shield; 04254680 soccer ball; 04266014 space shuttle; 04275548 spider web;
    04310018 steam locomotive; 04325704 scarf; 04347754 submarine; 04389033 tank; 04409515 tennis ball;
    04465501 tractor; 04487394 trombone; 04522168 vase; 04536866 violin; 04552348 military aircraft;
    04591713 wine bottle; 07614500 ice cream; 07693725 bagel; 07695742 pretzel; 07697313 cheeseburger;
    07697537 hot dog; 07714571 cabbage; 07714990 broccoli; 07718472 cucumber; 07720875 bell pepper; 07734744 mushroom;
    07742313 Granny Smith; 07745940 strawberry; 07749582 lemon; 07753275 pineapple; 07753592 banana;
    07768694 pomegranate; 07873807 pizza; 07880968 burrito; 07920052 espresso; 09472597 volcano;
    09835506 baseball player; 10565667 scuba diver; 12267677 acorn"""
IMAGENET_R = {f"n{entry[:8]}": entry[9:] for entry in " ".join(_IMAGENET_R.split()).split("; ")}
