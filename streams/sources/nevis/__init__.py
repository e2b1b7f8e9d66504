"""What NEVIS'22 (Bornschein et al. 2022, arXiv 2211.11747) needs from outside: tasks, their division, their files.

`tasks.csv` is the manifest, a line for each task of the full stream in its order, `manifest` reads it, `variants` cuts
shorter streams from it, `divisions` says which sample is for training and which for the test, `layouts` reads the files
as they are published, and `official` puts these together.

Where the published code (google-deepmind/dm_nevis) does other than its name or its comment says, this follows the code:

- *Major domains.* The list is cut by domain before 2019 alone, and keeps SVHN; all later tasks are in it.
- *Large data sets.* The list is said to be of those with 10,000 samples and more, but has some with fewer (LFW, Belgium
  traffic signs, Oxford-IIIT Pets, Stanford Cars, USPS and others), and everything since 2019.
- *PathMNIST* is Kather's colorectal histology with eight classes, not MedMNIST's set of that name with nine.
- *German traffic signs* are the 39,209 pictures of the final training set; torchvision downloads the 26,640 of the
  competition before it.
- *MNIST rotated* turns the training pictures and leaves the test pictures upright.
"""
